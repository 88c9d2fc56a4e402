"""What is compiled, where it pays, and that it learns the same."""

import functools
import shutil
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from cwd.losses import ChannelWise
from cwd.system import device
from cwd.training.loop import train_together
from cwd.training.run_folder import RunFolder
from cwd.training.tasks import segmentation


@pytest.fixture
def compiler(monkeypatch):
    """A compiler that leaves graphs as they are, and counts them."""
    count = CompileCounter()
    counted = functools.partialmethod(nn.Module.compile, backend=count)
    monkeypatch.setattr(nn.Module, "compile", counted)
    monkeypatch.setattr(device, "has_compiler", lambda: True)
    return count


def test_what_is_compiled_learns_the_same(
    trained, student, teacher, tmp_path, data_root, compiler, monkeypatch
):
    recipes = "PI + CW_f + MGD_b", "CW_s"
    runs = [replace(student, teacher=teacher, recipe=recipe) for recipe in recipes]
    plain = [trained(run) for run in runs]
    assert [folder.provenance["sessions"][0]["compiled"] for folder in plain] == [[], []]
    monkeypatch.setattr(device, "LARGE_MAP", 1)
    # as on a GPU, with as many pixels as the two see together
    height, width = student.schedule.crop
    pixels = len(runs) * student.schedule.steps * student.schedule.batch * height * width
    monkeypatch.setattr(device, "MANY_PIXELS", pixels)
    there = device.compile_networks
    on_gpu = lambda networks, pixels, _: there(networks, pixels, "cuda")  # noqa: E731
    monkeypatch.setattr(segmentation, "compile_networks", on_gpu)
    done = trained(teacher).done
    shutil.copytree(done, tmp_path / done.name)
    place = {"runs": tmp_path, "data_root": data_root, "device": "cpu"}
    assert train_together(runs, **place, allow_weak_teacher=True) == {}
    # the teacher, once for both students, and none again to be measured; PI, CW_s and CW_f, but not
    # MGD, which is mostly convolutions
    assert compiler.frame_count == 2 + 3
    for run, before in zip(runs, plain, strict=True):
        folder = RunFolder(tmp_path, run)
        assert folder.provenance["sessions"][0]["compiled"] == ["losses", "networks"]
        pd.testing.assert_frame_equal(folder.history(), before.history(), rtol=2e-3)
        assert folder.metrics["miou"] == pytest.approx(before.metrics["miou"], abs=0.1)


def test_where_compiling_pays(monkeypatch):
    network = nn.Conv2d(3, 4, 1)
    monkeypatch.setattr(device, "has_compiler", lambda: True)
    monkeypatch.setattr(nn.Module, "compile", lambda self, **how: setattr(self, "how", how))
    papers, camvids = 40_000 * 8 * 512 * 512, 1500 * 16 * 360 * 360
    assert not device.compile_networks([network], papers, "cpu")
    assert not device.compile_networks([network], camvids, "cuda")
    assert not device.compile_where_it_pays([network], 16 * 20)
    assert not device.compile_where_it_pays([], 64 * 64)
    assert not hasattr(network, "how")
    assert device.compile_networks([network], papers, "cuda")
    assert network.how == {"dynamic": False}
    monkeypatch.setattr(device, "has_compiler", lambda: False)
    assert not device.compile_where_it_pays([network], 64 * 64)


def test_every_temperature_of_a_group_is_compiled(compiler, monkeypatch):
    """By itself torch runs the ninth form of a class as it is, and says so in a warning."""
    monkeypatch.setattr(torch.compiler.config, "recompile_limit", 8)
    losses = [ChannelWise(temperature=t) for t in range(1, 13)]
    assert device.compile_where_it_pays(losses, 64 * 64)
    maps = torch.randn(2, 1, 2, 64, 64)
    for loss in losses:
        loss(*maps)
    assert compiler.frame_count == 12
