"""What came after the paper: factors of weights, budgets of time, seeds, and what trains when."""

import math
from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
import torch
import yaml
from invented import QUICK, Invented
from scipy import stats

from cwd.experiments import beyond, loss_costs, rows_beyond
from cwd.experiments.profile import load_profile
from cwd.experiments.study import TABLES, every_run, open_profile, study
from cwd.experiments.table import paper
from cwd.recipes.parse import parse_recipe
from cwd.tools.train import chosen_runs


@pytest.mark.parametrize("recipe", ["CW_s + MGD_b", "PI(weight=1) + CIRKD_f(pixel=0.01)", "LSKD_s"])
@pytest.mark.parametrize("factor", [0.1, 10])
def test_a_factor_is_of_all_weights_and_of_nothing_else(recipe, factor):
    before, after = parse_recipe(recipe), parse_recipe(rows_beyond.scaled(recipe, factor))
    for one, other in zip(before, after, strict=True):
        assert other.weight == pytest.approx(factor * one.weight, rel=1e-12)
        assert replace(other, weight=one.weight) == one
    assert rows_beyond.scaled(recipe, 1) == recipe


def test_every_method_is_shown_at_three_weights():
    table = study("beyond", Invented({"MGD_b": (50.0, 51.0), "": (40.0, 42.0)})).table()
    by_method = table.groupby(level="method", sort=False)
    assert {tuple(part.index.get_level_values("weights")) for _, part in by_method} == {
        ("",),
        ("published", "a tenth", "ten times"),
    }
    assert table.loc[("MGD, its term", "a tenth"), "recipe"] == "MGD_b(weight=2e-06)"
    assert table.loc[("MGD, its term", "published"), "our gain"] == 9.5
    assert table.loc[("CIRKD", "published"), "seeds"] == 0


def test_seeds_that_would_decide():
    miou = {"CW_f": (50.0, 51.0, 52.0), "PI": (51.0, 52.2, 53.4), "DIST_s": (51.0, 51.0, 51.1)}
    source = Invented(miou)
    found = beyond.decisive(study("beyond", source), "CWD, published")
    line = found.loc["KD, the paper's, published"]
    assert (line["difference"], line["sd"], line["seeds"]) == (1.2, 0.2, 3)
    low, high = (
        stats.t.interval(0.95, n - 1, 1.2, 0.2 / math.sqrt(n))[0]
        for n in (line["seeds to decide"] - 1, line["seeds to decide"])
    )
    assert math.isnan(low) or low < 0 < high
    assert pd.isna(found.loc["DIST, published", "seeds to decide"])  # 0.03 ± 0.95


def test_published_figures_are_gains_over_their_own_students():
    table = paper("beyond")
    assert (table["miou"] > table["student_miou"]).all()
    assert (table["teacher_miou"].fillna(100) > table["miou"] - 1).all()
    at = table.set_index(["method", "dataset", "student"])
    assert at.loc[("CIRKD", "Cityscapes val", "DeepLabV3-R18"), "miou"] == 76.38
    assert at.loc[("BPKD", "Cityscapes val", "PSPNet-R18"), "cwd_miou"] == 76.26


def test_optional_tables_are_trained_where_nothing_is_recorded(tmp_path, monkeypatch):
    quick, smoke = (open_profile(name, str(tmp_path), device="cpu") for name in ("quick", "smoke"))
    assert not quick.trains_optional  # which is recorded
    assert replace(quick, mode="all").trains_optional
    assert smoke.trains_optional
    rows = {run for row in study("beyond", quick.records).rows for run in row.runs}
    left = {run for run in every_run(quick, optional=False) if not quick.recorded(run)}
    assert left.isdisjoint(rows - set(quick.core))
    assert rows <= set(every_run(quick))
    assert not load_profile("cityscapes").beyond
    monkeypatch.setattr(beyond, "step_times", lambda profile: None)
    assert beyond.timed(quick) is None  # nor is anything timed


def test_what_is_trained_beside_a_student():
    table = loss_costs.trained_beside()["trained (M)"]
    assert table["the student itself"] == 13.07  # Table 6
    # two 3x3 convolutions of 2048 channels and the alignment of 512, with biases
    assert table["MGD_b"] == table["AFDCD_b"] == 76.55
    assert table["CIRKD_f"] == 0.33


@pytest.fixture
def workspace(place, monkeypatch):
    """A profile with three methods that came later, and a few steps."""
    few = partial(rows_beyond.beyond, rows={"KD": "PI", "CWD": "CW_f", "MGD, its term": "MGD_b"})
    monkeypatch.setitem(TABLES, "beyond", replace(TABLES["beyond"], rows=few))
    path = place / "mine.yaml"
    path.write_text(yaml.safe_dump(QUICK | {"beyond": [0]}))
    return open_profile(str(path), str(place), device="cpu")


def test_timed_and_trained_from_end_to_end(workspace, capsys):
    times = beyond.timed(workspace)
    assert list(times.index) == ["", "PI", "CW_f", "MGD_b"]
    assert (times["seconds"] > 0).all()
    assert times.loc["", "parameters"] == times.loc["PI", "parameters"] == 0
    assert times.loc["MGD_b", "parameters"] > times.loc["CW_f", "parameters"] > 0
    assert beyond.timed(workspace).equals(times)  # kept
    runs = chosen_runs(workspace, study_name="equal_time")
    assert {run.recipe for run in runs} == {*times.index}
    image, pulls = beyond.pulls(workspace, ["CW_f", "CIRKD_f", "MGD_b"])
    assert image.dtype == torch.uint8
    assert all(pull.max() > 0 and pull.isfinite().all() for pull in pulls.values())
    found = beyond.shown(workspace, "beyond").table()
    assert (found["seeds"] == 1).all()
    assert capsys.readouterr().out == "beyond: 11 of 11 runs are measured.\n"
