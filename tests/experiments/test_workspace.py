"""What is trained here, what is taken from the record, and what comes with the code."""

import json
import shutil

import pytest
import yaml
from invented import QUICK

from cwd.experiments import open_profile, study
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.tools.record import check, compare, publish_teacher, record
from cwd.training.run_folder import FILES, RunFolder

TINY = QUICK | {"data": QUICK["data"] | {"name": "streets"}}
RECIPES = ("", "MIMIC_f", "CW_f")


@pytest.fixture
def opened(place, data_root):
    """Open the tiny profile in a mode."""
    (place / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    return lambda mode="": open_profile(str(place / "tiny.yaml"), str(data_root), mode=mode)


@pytest.fixture
def measured(opened, place):
    """The runs of both seeds, which were trained and recorded, and aren't on disk any more."""
    workspace = opened("fresh")
    runs = [workspace.profile.run(recipe, seed) for recipe in RECIPES for seed in (0, 1)]
    workspace.train_all(runs)
    record(str(place / "tiny.yaml"))
    paths.RUNS.rename(place / "before")
    return runs


def test_by_default_the_core_is_trained_and_the_rest_recorded(measured, opened, place, capsys):
    workspace = opened()
    alone, _, other, *_, core, _ = measured
    assert {run.recipe for run in workspace.core} == {"", "PI", "CW_s", "CW_f", "AT_f"}
    workspace.train_all([other, core])
    assert not RunFolder(paths.RUNS, other).finished
    assert RunFolder(paths.RUNS, core).finished  # with its teacher and the student alone
    kept = RunFolder(place / "before", other)
    assert workspace.find(other) == {
        "run": json.loads((kept.done / "config.json").read_text()),
        "metrics": kept.metrics,
        "provenance": kept.provenance,
    }
    assert workspace.sources([alone, core, other]).startswith(
        "2 of 3 runs were measured here; 1 are recorded, commit "
    )
    assert list(workspace.here({"mine": core, "theirs": other})) == ["mine"]
    assert "Not shown: theirs, only recorded" in capsys.readouterr().out
    assert workspace.train(other).finished  # who asks for the network gets it
    assert workspace.recorded(other) is None


def test_a_table_says_which_runs_were_measured_here(measured, opened):
    workspace = opened()
    workspace.train_all(workspace.core[:2])
    table3 = study("table3", workspace)
    rows = tuple(row for row in table3.rows if row.label in {"CW_f", table3.rows[1].label})
    table = type(table3)("table3", workspace, rows).table()
    assert list(table["measured"]) == ["1 here, 1 recorded"] * 2


@pytest.mark.parametrize("mode", ["all", "fresh"])
def test_other_modes_train_what_is_recorded(measured, opened, mode):
    workspace = opened(mode)
    workspace.train_all(measured[2:3])
    assert RunFolder(paths.RUNS, measured[2]).finished


def test_an_unknown_mode(opened):
    with pytest.raises(CwdError, match=r"^mode 'old' is unknown: use one of core, all, fresh\.$"):
        opened("old")


def test_trained_runs_are_compared_with_their_record(measured, opened, place):
    workspace = opened()
    workspace.train(measured[4])
    table = compare(workspace)
    assert set(table["verdict"]) == {"equal"}  # the same machine, the same bytes
    check(table)
    # by hand: three recipes from two seeds each
    seeds = {run.recipe: [] for run in measured}
    for run in measured:
        seeds[run.recipe].append(RunFolder(place / "before", run).metrics["miou"])
    pooled = (sum((one - other) ** 2 / 2 for one, other in seeds.values()) / 3) ** 0.5
    assert table["sd over seeds"].iloc[0] == pytest.approx(pooled)
    path = RunFolder(paths.RUNS, measured[4]).done / "metrics.json"
    metrics = json.loads(path.read_text())
    for further, verdict in ((2 * pooled, "within"), (4 * pooled, "outside")):
        path.write_text(json.dumps(metrics | {"miou": metrics["miou"] + further}))
        table = compare(workspace).set_index("run")
        assert table.loc[measured[4].title, "verdict"] == verdict
    with pytest.raises(CwdError, match=r"^1 of \d runs are further from their record than seeds"):
        check(compare(workspace))
    assert compare(opened("fresh")).empty


def test_a_teacher_that_comes_with_the_code(measured, opened, place, monkeypatch):
    workspace = opened()
    teacher = workspace.profile.teacher
    before = RunFolder(place / "before", teacher)
    with monkeypatch.context() as patch:
        patch.setattr(paths, "RUNS", before.root)
        *_, card = publish_teacher(teacher)
    assert f"{before.metrics['miou']:.2f} mIoU on 4 images of val" in card.read_text()
    with monkeypatch.context() as patch:
        patch.setattr("cwd.experiments.workspace.train_together", None)  # nothing is trained
        folder = workspace.train(teacher)
    for name in FILES:
        assert (folder.done / name).read_bytes() == (before.done / name).read_bytes()
    assert workspace.taken(teacher)
    assert workspace.sources([teacher]).startswith("0 of 1 runs were measured here; 1 are recorded")
    assert compare(workspace).empty  # nothing was trained
    # a student may learn from it
    assert workspace.train(measured[4]).metrics == RunFolder(place / "before", measured[4]).metrics


@pytest.mark.parametrize("case", ["fresh", "other images"])
def test_a_teacher_that_comes_with_the_code_and_does_not_fit(measured, opened, place, case):
    workspace = opened("fresh" if case == "fresh" else "")
    teacher = workspace.profile.teacher
    published = RunFolder(paths.WEIGHTS, teacher)
    shutil.copytree(place / "before" / teacher.name, published.done)
    if case != "fresh":
        known = published.provenance
        known["dataset"]["train"] = "0" * 64
        (published.done / "provenance.json").write_text(json.dumps(known))
    assert not workspace.take_published(teacher)
