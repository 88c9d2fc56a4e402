"""What losses cost: counts against a count by hand, exponents against known ones; never a time."""

import itertools
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from cwd.experiments import loss_costs
from cwd.experiments.loss_costs import loss_step, recipe_step
from cwd.experiments.study import open_profile
from cwd.figures import complexity
from cwd.losses import ChannelWise, Mimic, PairwiseAffinity, pairwise
from cwd.models.build import build_network
from cwd.system import paths
from cwd.system.timing import laps, peak_bytes

FLOAT = 4  # bytes


@pytest.fixture(scope="module")
def costs():
    """Every loss on small maps."""
    shapes = [(2, c, side, side) for side, c in ((8, 4), (12, 4), (16, 4), (16, 8), (16, 16))]
    return loss_costs.measure_losses("cpu", repeats=1, shapes=shapes)


def held(loss, shape):
    return peak_bytes(loss_step(loss, shape, "cpu"), "cpu")


def test_every_loss_is_measured_and_named(costs):
    assert set(costs["loss"]) == set(loss_costs.LOSSES)
    assert len(costs) == 5 * len(loss_costs.LOSSES)
    assert np.isfinite(costs[["seconds", "bytes"]]).all(axis=None)
    assert (costs[["seconds", "bytes"]] > 0).all(axis=None)
    shown = {
        text.get_text() for axes in complexity.growth(costs, "bytes").axes for text in axes.texts
    }
    names = {complexity.SHORT.get(name, name) for name in loss_costs.LOSSES}
    assert names | {"slope 1", "slope 2"} == shown


def test_memory_by_hand():
    # the student's gradient, and the difference that is squared; a few scalars beside them
    shape = (2, 8, 16, 16)
    maps = 2 * FLOAT * 2 * 8 * 16 * 16
    assert maps <= held(Mimic(), shape) < maps + 100


def test_memory_is_the_same_every_time():
    for recipe in ("CW_f", "IFV_f", "HO"):
        steps = [recipe_step(recipe, (2, 4, 16, 16), "cpu") for _ in range(2)]
        assert len({peak_bytes(step, "cpu") for step in steps * 2}) == 1


def test_memory_of_channel_wise_is_linear_and_of_pairs_square(monkeypatch):
    shapes = [(1, 4, side, side) for side in (16, 24, 32)]
    positions = [shape[2] * shape[3] for shape in shapes]

    def sizes(loss, limit=2**40):
        monkeypatch.setattr(pairwise, "BLOCK", limit)
        return [held(loss, shape) for shape in shapes]

    pairs = PairwiseAffinity(pool_scale=0)
    for loss, power in ((ChannelWise(), 1), (pairs, 2)):
        slope = np.polyfit(np.log(positions), np.log(sizes(loss)), 1)[0]
        assert slope == pytest.approx(power, abs=0.1)
    for size, n in zip(sizes(pairs, limit=2**14), positions, strict=True):
        # blocks of a fixed size, and copies of the map
        assert size < 6 * FLOAT * 2**14 + 20 * FLOAT * 4 * n


def test_one_block_is_the_loss():
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 3, 6, 5, generator=generator) for _ in range(2)]
    expected = PairwiseAffinity(pool_scale=0)(*maps).item()
    assert loss_costs.in_one_block(*maps).item() == pytest.approx(expected, rel=1e-6)
    table = loss_costs.pairwise_memory(sides=(8,))
    assert list(table.index) == [64]


def test_known_exponents_are_found():
    """t = 3 N^2 C."""
    points = {(n, 64) for n in (64, 256, 1024, 4096)} | {(1024, c) for c in (16, 32, 64, 128)}
    lines = pd.DataFrame(sorted(points), columns=["positions", "channels"])
    cost = 3.0 * lines["positions"] ** 2 * lines["channels"]
    costs = lines.assign(loss="CW_f", seconds=cost, bytes=cost / lines["channels"])
    costs.loc[costs["positions"] < 1024, ["seconds", "bytes"]] = 1e9  # small maps are not fitted
    slopes = loss_costs.fitted_slopes(costs)
    (line,) = slopes.to_dict("records")
    assert line["the paper's complexity"] == "h*w*c"
    assert (line["N: predicted"], line["C: predicted"]) == (1, 1)
    found = [line[f"{x}: {y}"] for x, y in itertools.product("NC", ("time", "memory"))]
    assert found == pytest.approx([2, 2, 1, 0], abs=1e-9)


def test_the_papers_column():
    table = loss_costs.predicted_orders()
    assert table.loc["PA_f(pool_scale=0)"].tolist() == ["(h*w)^2*c", 2, 1]
    assert table.loc["HO", "the paper's complexity"] == "O(D)"
    assert pd.isna(table.loc["HO", "exponent of N"])


def test_rounds_belong_together():
    called = []
    times = laps([lambda: called.append(0), lambda: called.append(1)], "cpu", repeats=2, warm=1)
    assert called == [0, 1] * 3
    assert [len(t) for t in times] == [2, 2]


def test_shares():
    parts = {"student": 60.0, "teacher": 30.0, "CW_f": 10.0, "HO": 90.0}
    seconds = pd.DataFrame({name: [value / 1e3] * 3 for name, value in parts.items()})
    table = loss_costs.step_shares(seconds)
    assert list(table.index) == ["HO", "CW_f"]
    assert table["share of a step (%)"].tolist() == pytest.approx([50, 10])


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A profile of small crops, whose data is never drawn."""
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    opened = open_profile("smoke", data_root=str(tmp_path), device="cpu")
    student = opened.profile.student
    schedule = replace(student.schedule, batch=2, crop=(32, 64))
    profile = replace(opened.profile, student=replace(student, schedule=schedule))
    opened = replace(opened, profile=profile)
    opened.__dict__["data"] = [SimpleNamespace(num_classes=4)]  # where the property keeps it
    return opened


def test_recorded(workspace, costs):
    names = workspace.profile.student.network, workspace.profile.teacher.network
    widths = [build_network(name, 4, device="meta").feature_channels for name in names]
    assert widths[0] != widths[1]  # so that their maps have to be aligned
    seconds = loss_costs.step_seconds(workspace, repeats=2)
    assert set(seconds) == {"student", "teacher", "alignment", *loss_costs.LOSSES}
    assert (seconds > 0).all(axis=None)
    path = loss_costs.record_costs(workspace, costs, seconds)
    assert path == workspace.output / "costs.json"
    kept = json.loads(path.read_text(), parse_constant=pytest.fail)  # NaN is no JSON
    assert kept["provenance"]["hardware"]["device"] == "cpu"
    assert len(kept["grid"]["costs"]) == len(costs)
    assert kept["step"]["seconds"]["CW_f"] == seconds["CW_f"].tolist()
    (holistic,) = [line for line in kept["slopes"] if line["loss"] == "HO"]
    assert holistic["N: predicted"] is None


def test_labels_keep_apart():
    places = complexity.spread([0.1, 0.11, 0.12, 0.5, 0.9], 0.05)
    assert np.diff(places).min() >= 0.05 - 1e-9
    assert places[3:] == pytest.approx([0.5, 0.9])
    assert np.mean(places[:3]) == pytest.approx(0.11)
