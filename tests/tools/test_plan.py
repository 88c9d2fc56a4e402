"""The plan: counts, hours, disk and downloads, against numbers by hand; nothing is trained."""

import json
import sys
from dataclasses import asdict, replace

import pandas as pd
import pytest
import torch

from cwd import __main__
from cwd.config.run import Data
from cwd.config.schedule import Schedule
from cwd.experiments.profile import load_profile
from cwd.experiments.records import Records
from cwd.experiments.step_parts import distilling, timed
from cwd.experiments.study import every_run
from cwd.models.build import build_network, count_multiply_adds
from cwd.models.names import SEGMENTATION, kind_of
from cwd.recipes.parse import parse_recipe
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.tools import needs, pace
from cwd.tools.needs import RunSize, dataset_needs, in_words, run_size, shortages, weight_needs
from cwd.tools.pace import Stopwatch, gpu_seconds, seconds_of
from cwd.tools.plan import plan
from cwd.training.loop import train
from cwd.training.run_folder import RunFolder

ELSEWHERE = {"device": "cpu", "name": "another", "threads": 64}
GPU = {"device": "cuda", "name": "NVIDIA T", "threads": 1}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A checkout of which nothing was built, and a data root without data."""
    for name, folder in (("BUILD", "build"), ("RUNS", "build/runs"), ("CACHE", "build/cache")):
        monkeypatch.setattr(paths, name, tmp_path / folder)
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    for where in ("cwd.experiments.workspace.train", "cwd.experiments.workspace.Workspace.images"):
        monkeypatch.setattr(where, lambda *a, **k: pytest.fail("nothing may be trained or read"))
    return tmp_path


@pytest.fixture
def clock(monkeypatch):
    """Every part takes half a second; the list grows with every measurement."""
    measured = []
    monkeypatch.setattr(pace, "timed", lambda step, device: measured.append(device) or 0.5)
    return measured


@pytest.fixture
def smoke():
    return load_profile("smoke")


def planned(place, **options):
    """The plan of smoke by recipe, of the student of Table 2."""
    path = plan("smoke", data_root=place / "data", device="cpu", **options)
    table = pd.read_csv(path, keep_default_na=False)
    mine = table[table["network"] == load_profile("smoke").student.network]
    return table, mine.set_index("recipe")


def hardware():
    return Stopwatch("cpu", 19, paths.BUILD).hardware


def record(run, seconds, place):
    """What is kept of a run that took so long on some hardware."""
    sessions = [{"hardware": place, "seconds": seconds}]
    return {
        "run": asdict(run),
        "metrics": {"miou": 1.0},
        "provenance": {"seconds": seconds, "sessions": sessions},
    }


def finish(run, seconds, place):
    """Put a finished run on the disk."""
    folder = RunFolder(paths.RUNS, run).done
    folder.mkdir(parents=True)
    for name in ("metrics", "provenance"):
        (folder / f"{name}.json").write_text(json.dumps(record(run, seconds, place)[name]))


def keep(run, seconds, place):
    """Put a run among the recorded ones."""
    path = paths.RESULTS / "smoke" / f"{run.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record(run, seconds, place)))


def test_measured_from_nothing(place, smoke, capsys, monkeypatch):
    table, _ = planned(place)
    runs = every_run(Records(smoke))
    assert table["runs"].sum() == table["left"].sum() == len(runs)
    assert len(table) == len({replace(run, seed=0) for run in runs})
    segments = table["network"].map(kind_of) == SEGMENTATION
    assert set(table["step_from"][segments]) == {"parts"}
    assert set(table["step_from"][~segments]) == {"step"}
    assert (table["seconds_per_step"] > 0).all()
    assert not (place / "data").exists()
    assert not paths.RUNS.exists()

    said = capsys.readouterr().out
    assert max(len(line) for line in said.splitlines() if str(place) not in line) <= 100
    assert "ASSUMED 30 TFLOP/s" in said
    assert f"{len(runs)} runs left" in said
    monkeypatch.setattr(pace, "timed", lambda *a: pytest.fail("measured again"))
    again, _ = planned(place)
    assert again.equals(table)


def test_hours_by_hand(place, clock, smoke):
    table, mine = planned(place, seeds="0,1,2")
    # the first recipe asks the teacher, whose maps are then kept; four terms in the last
    expected = {"": 0.5, "MIMIC_f": 1.5, "CW_f": 1.0, "PI + HO": 1.5, "PI + HO + CW_s + CW_f": 2.5}
    assert mine.loc[list(expected), "seconds_per_step"].to_dict() == expected
    assert mine.loc["CW_f", "hours_left"] == pytest.approx(3 * 4 * 1.0 / 3600, abs=1e-4)
    by_hand = (table["runs"] * table["steps"] * table["seconds_per_step"]).sum() / 3600
    assert table["hours_in_all"].sum() == pytest.approx(by_hand, abs=0.01)
    (teacher,) = table[table["network"] == smoke.teacher.network].to_dict("records")
    assert (teacher["runs"], teacher["steps"], teacher["seconds_per_step"]) == (1, 6, 0.5)
    weights = {f"CW_f(weight={w})" for w in (10, 20, 50)}
    assert weights <= set(mine.index)
    assert len(clock) < len(table)  # the same loss at another weight isn't measured again


def test_done_and_left(place, clock, smoke, capsys):
    finish(smoke.run("CW_f", 0), 8.0, hardware())
    keep(smoke.run("CW_f", 1), 4.0, hardware())
    keep(smoke.run("PI", 0), 400.0, ELSEWHERE)
    finish(smoke.run("", 1), 12.0, hardware())
    _, mine = planned(place)
    columns = ["finished", "recorded", "left", "seconds_per_step", "step_from"]
    assert mine.loc["CW_f", columns].tolist() == [1, 1, 0, (8 / 4 + 4 / 4) / 2, "runs"]
    assert mine.loc["PI", columns].tolist() == [0, 1, 1, 1.0, "parts"]
    assert mine.loc["", columns].tolist() == [1, 0, 1, 3.0, "runs"]
    said = capsys.readouterr().out
    total = len(every_run(Records(smoke)))
    (sums,) = [line.split() for line in said.splitlines() if line.startswith("sum ")]
    assert sums[1:5] == [str(n) for n in (total, 2, 2, total - 4)]
    assert "trains the 2 runs that are" in said


def test_which_runs_count(smoke):
    here, run = GPU | {"processes": 1}, smoke.student
    records = [record(run, seconds, GPU) for seconds in (4.0, 8.0, 4000.0)]
    assert seconds_of(records, 4, here) == 2.0  # one of them waited for something
    others = [ELSEWHERE, GPU | {"processes": 2}, GPU | {"threads": 3}]
    assert seconds_of([record(run, 4.0, other) for other in others], 4, here) is None
    assert seconds_of([record(run, 0.0, GPU)], 4, here) is None
    assert gpu_seconds(record(run, 4.0, GPU | {"processes": 2})) == ("NVIDIA T", 8.0)
    assert gpu_seconds(record(run, 4.0, ELSEWHERE)) is None


def test_gpu_hours_of_recorded_runs(place, clock, smoke, capsys):
    student = smoke.student
    forward = count_multiply_adds(build_network(student.network, 19), student.schedule.crop)
    operations = 2 * 3 * forward * 4 * 4  # a batch of 4, 4 steps
    keep(smoke.run("", 0), operations / 2e12, GPU)
    planned(place)
    said = " ".join(capsys.readouterr().out.split())
    assert "on NVIDIA T, which sustained 2 TFLOP/s in 1 finished or recorded runs" in said
    assert "ASSUMED" not in said


def test_operations_by_hand(place, smoke):
    watch, run = Stopwatch("cpu", 19, paths.BUILD), smoke.run("CW_f", 0)
    student, teacher = (
        count_multiply_adds(build_network(name, 19), (64, 128))
        for name in (run.network, run.teacher.network)
    )
    assert watch.operations(run) == 2 * 4 * (3 * student + teacher)


def test_a_slow_machine_measures_less(place, clock, monkeypatch):
    monkeypatch.setattr(pace, "AFFORDED", 4e8)
    watch, schedule = Stopwatch("cpu", 19, paths.BUILD), Schedule(batch=8, crop=(256, 256))
    found = watch.network("PSPNet-R18(0.125)", schedule, training=True)
    (crop,) = watch.smaller.values()
    assert crop[0] == crop[1] < 256
    network = build_network("PSPNet-R18(0.125)", 19)
    large, small = (count_multiply_adds(network, size) for size in ((256, 256), crop))
    assert 2 * small == pytest.approx(4e8, rel=0.2)
    assert found == pytest.approx(0.5 * 4 * large / small)  # two images of eight were measured


def test_no_room_in_the_gpu(place, monkeypatch, smoke):
    def full(step, device):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(pace, "timed", full)
    watch = Stopwatch("cpu", 19, paths.BUILD)
    with pytest.raises(CwdError, match=r"a training step of PSPNet-R18\(0\.125\) with 4 images"):
        watch.step(smoke.student)


@pytest.mark.parametrize("recipe", ["HO", "CW_f", "IFV_s"])
def test_losses_at_work(recipe):
    names = ("PSPNet-MBV2(0.35)", "PSPNet-R18(0.125)")
    (term,) = parse_recipe(recipe)
    step = distilling(term, names, 5, batch=2, crop=(64, 64), device="cpu", fast=False)
    assert timed(step, "cpu") > 0


def test_disk_of_a_trained_run(student, teacher, data_root, tmp_path):
    run = replace(student, recipe="HO + CW_f", teacher=teacher)
    for each in (teacher, run):
        folder = train(
            each, runs=tmp_path, data_root=data_root, device="cpu", allow_weak_teacher=True
        )
        size, found = run_size(each), folder.done
        kept = (found / "student.safetensors", found / "checkpoint.pt")
        for expected, path in zip((size.student, size.checkpoint), kept, strict=True):
            assert expected == pytest.approx(path.stat().st_size, rel=0.02)
        assert size.kept == pytest.approx(sum(p.stat().st_size for p in found.iterdir()), rel=0.02)
    assert RunSize(student=3, checkpoint=10).peak == 20


def test_downloads(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    archives, train_part, val_part = dataset_needs(Data("cityscapes", val=50), tmp_path)
    assert archives.download == 11_592_327_197 + 252_567_705
    assert archives.size == 2 * archives.download
    assert train_part.size == 4 * 1024 * 2048 * 2975
    assert val_part.size == 4 * 1024 * 2048 * 50
    assert len(dataset_needs(Data("camvid"), tmp_path)) == 1  # decoded into memory
    assert len(dataset_needs(Data("cityscapes", size=(64, 128)), tmp_path)) == 1
    scenes = Data("scenes", size=(8, 16), train=3, val=2, seed=1)
    assert dataset_needs(scenes, tmp_path)[0].size == 4 * 8 * 16 * 5
    (tmp_path / "scenes" / "8x16-3-2-seed1").mkdir(parents=True)
    assert dataset_needs(scenes, tmp_path)[0].size == 0


def test_a_dataset_that_is_there(camvid_root):
    (need,) = dataset_needs(Data("camvid"), camvid_root)
    assert (need.size, need.download) == (0, 0)
    assert "present" in need.what


def test_weights(tmp_path, student):
    file = tmp_path / "backbone.pth"
    runs = [
        replace(student, init=str(file)),
        replace(student, network="Deeplab-MBV2", init="imagenet"),
        replace(student, network="PSPNet-MBV2", init="imagenet"),
        student,
    ]
    missing, public = weight_needs(runs)
    assert "missing" in missing.what
    assert "timm's mobilenetv2_100" in public.what
    backbone = build_network("PSPNet-MBV2", 19).backbone
    assert public.download == sum(
        t.numel() * t.element_size() for t in backbone.state_dict().values()
    )
    file.write_bytes(b"")
    assert "present" in weight_needs(runs)[0].what


def test_too_little_room(tmp_path, monkeypatch):
    monkeypatch.setattr(needs, "free_bytes", lambda place: (1, 3 * 2**30))
    wanted = [needs.Need("a", 2**31, tmp_path), needs.Need("b", 2**31, tmp_path / "c")]
    (sentence,) = shortages(wanted)
    assert sentence.startswith("WARNING: 4.0 GiB are to be written")
    assert "has 3.0 GiB free" in sentence
    assert shortages(wanted[:1]) == []
    assert [in_words(n) for n in (0, 1536, 5 * 2**40)] == ["0 bytes", "1.5 KiB", "5120.0 GiB"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--profile", "nonsense"], "no profile 'nonsense'"),
        (["--profile", "smoke", "--tflops", "0"], "tflops is 0"),
        (["--profile", "smoke", "--seeds", "one"], "seeds 'one' must be"),
    ],
)
def test_one_sentence(monkeypatch, capsys, arguments, sentence):
    monkeypatch.setattr(sys, "argv", ["cwd", "plan", *arguments])
    assert __main__.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line
