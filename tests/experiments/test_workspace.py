"""What is trained here, what is taken from the record, and what comes with the code."""

import errno
import json
import shutil

import pytest
import yaml
from invented import QUICK, elsewhere

from cwd.experiments import open_profile, study
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.tools.record import UNKNOWN, check, compare, publish_teacher, record
from cwd.training.run_folder import CONFIG, FILES, METRICS, PROVENANCE, WEIGHTS, RunFolder

TINY = QUICK | {"data": QUICK["data"] | {"name": "streets"}}
RECIPES = ("", "MIMIC_f", "CW_f")


@pytest.fixture
def opened(place, data_root):
    """Open the tiny profile in a mode."""
    (place / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    return lambda mode="": open_profile(str(place / "tiny.yaml"), str(data_root), mode=mode)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, data_root):
    """A checkout in which the runs of both seeds were trained and recorded."""
    with pytest.MonkeyPatch.context() as patch:
        place = elsewhere(patch, tmp_path_factory.mktemp("checkout"))
        (place / "tiny.yaml").write_text(yaml.safe_dump(TINY))
        workspace = open_profile(str(place / "tiny.yaml"), str(data_root), mode="fresh")
        runs = [workspace.profile.run(recipe, seed) for recipe in RECIPES for seed in (0, 1)]
        workspace.train_all(runs)
        record(str(place / "tiny.yaml"))
    return place, runs


@pytest.fixture
def measured(checkout, place):
    """These runs, recorded in this test's checkout; on disk they are somewhere else, `before`."""
    source, runs = checkout
    shutil.copytree(source / "RESULTS", paths.RESULTS)
    shutil.copytree(source / "RUNS", place / "before")
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
    assert not workspace.recorded(other)


def test_a_table_says_which_runs_were_measured_here(measured, opened):
    workspace = opened()
    workspace.train_all(workspace.core[:2])
    table3 = study("table3", workspace)
    rows = tuple(row for row in table3.rows if row.label in {"CW_f", table3.rows[1].label})
    table = type(table3)("table3", workspace, rows).table()
    assert list(table["measured"]) == ["1 here, 1 recorded"] * 2


def test_trained_runs_are_compared_with_their_record(measured, opened, place):
    workspace = opened()
    workspace.train(measured[4])
    table = compare(workspace)
    assert set(table["verdict"]) == {"equal"}  # the same machine, the same bytes
    check(table)
    # by hand: two seeds each of three recipes, without the one that varies most
    seeds = {run.recipe: [] for run in measured}
    for run in measured:
        seeds[run.recipe].append(RunFolder(place / "before", run).metrics["miou"])
    *usual, _ = sorted((one - other) ** 2 / 2 for one, other in seeds.values())
    pooled = (sum(usual) / 2) ** 0.5
    assert table["sd over seeds"].iloc[0] == pytest.approx(pooled)
    path = RunFolder(paths.RUNS, measured[4]).done / "metrics.json"
    metrics = json.loads(path.read_text())
    for further, verdict in ((2 * pooled, "within"), (4 * pooled, "outside")):
        path.write_text(json.dumps(metrics | {"miou": metrics["miou"] + further}))
        table = compare(workspace).set_index("run")
        assert table.loc[measured[4].title, "verdict"] == verdict
    with pytest.raises(
        CwdError, match=r"^1 of \d runs are unlike their record, first .*, outside: "
    ):
        check(compare(workspace))
    assert compare(opened("fresh")).empty


def back(place, run):
    """As if the run had been trained again, with the same result."""
    shutil.copytree(place / "before" / run.name, paths.RUNS / run.name)


def test_a_record_that_no_training_gives(measured, opened, place):
    """One absurd score doesn't widen what it, or another, is judged by."""
    workspace = opened()
    back(place, measured[4])
    usual = compare(workspace)["sd over seeds"].max()
    kept = workspace.records.path(measured[4])
    known = json.loads(kept.read_text())
    kept.write_text(json.dumps(known | {"metrics": known["metrics"] | {"miou": 99.0}}))
    table = compare(workspace).set_index("run")
    assert table.loc[measured[4].title, "verdict"] == "outside"
    assert table["sd over seeds"].max() < 10 * usual
    other = known["provenance"]["dataset"] | {"val": "0" * 64}
    known["provenance"]["dataset"] = other
    kept.write_text(json.dumps(known))
    with pytest.raises(CwdError, match=r"^1 of \d runs .*, other images: .* code or data"):
        check(compare(workspace))


def test_a_record_of_one_seed_is_compared_too(measured, opened, place):
    workspace = opened()
    back(place, measured[4])
    for run in measured[1::2]:
        workspace.records.path(run).unlink()
    assert set(compare(workspace)["sd over seeds"]) == {UNKNOWN}
    path = RunFolder(paths.RUNS, measured[4]).done / "metrics.json"
    known = json.loads(path.read_text())
    path.write_text(json.dumps(known | {"miou": known["miou"] + 3.1 * UNKNOWN}))
    with pytest.raises(CwdError, match=r"^1 of \d runs are unlike their record"):
        check(compare(workspace))


def test_what_record_says_and_leaves(measured, opened, place, capsys):
    before = place / "before"
    before.rename(paths.RUNS)
    folder = paths.RESULTS / "tiny"
    stale = folder / "PSPNet-R18-0.125-PI-s0-0123456789ab.json"
    for path in (stale, folder / "notes.json"):
        path.write_text("{}")
    path = RunFolder(paths.RUNS, measured[0]).done / PROVENANCE
    known = json.loads(path.read_text())
    known["sessions"][0]["dirty"] = True
    path.write_text(json.dumps(known))
    capsys.readouterr()
    written = record(str(place / "tiny.yaml"))
    said = capsys.readouterr().err
    assert "files are of uncommitted code, first PSPNet" in said
    assert f"1 records are of no run of the profile, first {stale.name}: delete" in said
    assert {path.name for path in folder.iterdir()} == {
        *(path.name for path in written), "notes.json", stale.name,
    }  # fmt: skip
    other = place / "other" / "tiny.yaml"
    other.parent.mkdir()
    other.write_text(yaml.safe_dump(TINY | {"seeds": [5]}))
    with pytest.raises(CwdError, match=r"tiny\.yaml has other runs than .*other.tiny\.yaml: give"):
        record(str(other))


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


def published(measured, place):
    """The teacher of the tiny profile, as it comes with the code."""
    teacher = measured[4].teacher
    shutil.copytree(place / "before" / teacher.name, paths.WEIGHTS / teacher.name)
    return RunFolder(paths.WEIGHTS, teacher)


@pytest.mark.parametrize("mode", ["all", "fresh"])
def test_after_a_copied_teacher_other_modes_train_it_and_its_students(
    measured, opened, place, mode
):
    teacher, student = published(measured, place).run, measured[4]
    opened().train_now([teacher, student])
    workspace = opened(mode)
    assert not workspace.recorded(measured[2])
    assert workspace.left([teacher, student]) == [teacher, student]
    kept = paths.RUNS / ".replaced"
    assert {path.name for path in kept.iterdir()} == {teacher.name, student.name}
    workspace.train_now([student])
    assert not workspace.taken(teacher)
    assert workspace.left([teacher, student]) == []  # the second call trains nothing
    path = RunFolder(paths.RUNS, student).done / "provenance.json"
    learnt = json.loads(path.read_text())
    learnt["teacher"]["sha256"] = "0" * 64  # of another that was there before
    path.write_text(json.dumps(learnt))
    assert opened().left([student]) == [student]


def test_a_published_teacher_that_is_damaged(measured, opened, place):
    source = published(measured, place)
    for name, change, words in (
        (WEIGHTS, lambda data: data[:-1] + b"x", "holds other weights than those"),
        (METRICS, lambda data: b"{}", "has no parameters"),
        (CONFIG, lambda data: data.replace(b'"seed": 0', b'"seed": 7'), "is of another run"),
        (CONFIG, lambda data: b"{}", "has no schedule"),
    ):
        path = source.done / name
        kept = path.read_bytes()
        path.write_bytes(change(kept))
        for _ in range(2):
            with pytest.raises(CwdError, match=words) as caught:
                opened().train(source.run)
            assert str(path) in str(caught.value)
            assert f"delete {source.done} to train" in str(caught.value)
        assert not RunFolder(paths.RUNS, source.run).done.exists()
        path.write_bytes(kept)
    assert opened().taken(opened().train(source.run).run)


def test_a_disk_that_is_full_while_the_teacher_is_copied(measured, opened, place, monkeypatch):
    source = published(measured, place)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "the source")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(CwdError, match=r"partial/config\.json could not be written .*free"):
        opened().train(source.run)


def test_a_teacher_that_comes_with_the_code_and_does_not_fit(measured, opened, place):
    source = published(measured, place)
    assert not opened("fresh").take_published(source.run)
    known = source.provenance
    known["dataset"]["train"] = "0" * 64
    (source.done / PROVENANCE).write_text(json.dumps(known))
    assert not opened().take_published(source.run)
