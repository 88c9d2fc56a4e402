"""The second paper's four tasks: profiles, rows, claims, and which channels match."""

import math

import numpy as np
import pytest
import torch
from invented import InventedTasks

from cwd.experiments.claims.comparisons import Evidence
from cwd.experiments.claims.judging import CLAIMS
from cwd.experiments.correlation import (
    Channels,
    channels_of,
    correlations,
    linear_cka,
    matches,
    some_positions,
)
from cwd.experiments.profile import load_profile
from cwd.experiments.records import Records
from cwd.experiments.rows_pairs import TASKS, overview, pairs_of
from cwd.experiments.study import every_run, open_profile, studies_of, study
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.tools.reproduce import choose, find_notebooks, fitting
from cwd.training.run_folder import RunFolder
from cwd.training.tasks import task_of


def everywhere(recipe, values):
    """The same values in all four tasks."""
    taps = {"Classifier": "_f", "FasterRCNN": "_fpn", "MaskRCNN": "_fpn", "PSPNet": "_f"}
    return {(kind, recipe and recipe + tap): values for kind, tap in taps.items()}


def test_the_abstracts_gains_and_ours():
    known = everywhere("", (50.0, 52.0, 54.0)) | everywhere("CT", (53.0, 56.0, 57.0))
    table = study("transformation", InventedTasks(known)).table()
    assert list(dict.fromkeys(table.index.get_level_values("task"))) == list(TASKS)
    assert table.xs("CT", level="method")["paper gain"].tolist() == [3.28, 3.9, 2.8, 4.66]
    assert table["paper gain"].count() == 4
    assert table.xs("CT", level="method")["our gain"].tolist() == [3.33] * 4
    assert table.loc[(TASKS[0], "CT"), "gain sd"] == 0.58  # of 3, 4 and 3
    assert table.loc[(TASKS[1], "student"), "sd"] == 2
    assert table.xs("student", level="method")["measure"].tolist() == [
        "top-1", "AP", "mask AP", "mIoU",
    ]  # fmt: skip
    assert (table.xs("MIMIC", level="method")["status"] == "not run").all()
    assert math.isnan(table.loc[(TASKS[2], "MIMIC"), "our gain"])


def test_each_task_is_distilled_from_its_own_teacher_over_three_seeds():
    quick = load_profile("quick")
    for row in study("transformation", Records(quick)).rows:
        seeds = [run.seed for run in row.runs]
        assert seeds == ([0] if row.printed["method"] == "teacher" else [0, 1, 2])
        pair = pairs_of(quick)[row.printed["task"]]
        for run in row.runs:
            assert run.teacher in (pair.teacher, None)
            assert task_of(run.network) is task_of(pair.teacher.network)
    table9 = [run for row in study("table9", Records(quick)).rows for run in row.runs]
    assert {run.seed for run in table9} == {0}  # as before


def test_full_profiles_have_the_abstracts_students():
    students = {
        task: pair.student.network
        for name in ("imagenet", "coco", "cityscapes")
        for task, pair in pairs_of(load_profile(name)).items()
    }
    assert students == {
        TASKS[0]: "Classifier-MBV1",
        TASKS[1]: "FasterRCNN-R50",
        TASKS[2]: "MaskRCNN-R50",
        TASKS[3]: "PSPNet-R18",
    }
    assert set(overview(load_profile("imagenet"))["our student"]) == {"", "Classifier-MBV1"}


def test_what_profiles_have_networks_for():
    coco, imagenet, quick = (load_profile(name) for name in ("coco", "imagenet", "quick"))
    books = find_notebooks(paths.NOTEBOOKS)
    assert fitting(books, quick) == books
    assert books[-1].stem == "99_claims"  # it speaks of all
    for profile, numbers, studies, count in (
        # Table 9's, Faster R-CNN's MIMIC and CT, and Mask R-CNN's five
        (coco, ["A1", "A2", "99"], ("table9", "transformation"), 16 + 2 + 5),
        (imagenet, ["A2", "99"], ("transformation",), 5),
    ):
        assert [book.stem[:2] for book in fitting(books, profile)] == numbers
        assert studies_of(profile) == studies
        assert len(every_run(Records(profile))) == count
        with pytest.raises(CwdError, match="no networks for table2"):
            study("table2", Records(profile))
        with pytest.raises(CwdError, match=f"{profile.name} has no segmentation networks"):
            _ = open_profile(profile.name).data
    assert coco.find("RetinaNet-R50") == coco.detection.pairs[1].student
    with pytest.raises(CwdError, match="RetinaNet-R50"):
        coco.find("PSPNet-R18")
    camvid = fitting(books, load_profile("camvid"))
    assert not {"A1", "A2"} & {book.stem[:2] for book in camvid}
    with pytest.raises(CwdError, match="A1 for this profile"):
        choose(camvid, "A1")
    for part, words in (
        ("transformation", "no transformation section"),
        ("detection", "detectors"),
    ):
        with pytest.raises(CwdError, match=f"camvid has .*{words}"):
            getattr(open_profile("camvid"), part)


def test_claims_compare_task_by_task():
    known = everywhere("", (50.0, 51.0)) | everywhere("CT", (53.0, 55.0))
    evidence = Evidence(InventedTasks(known))
    *gains, direct = (claim for claim in CLAIMS if claim.kind == "tasks")
    found = [finding for test in gains for finding in test.findings(evidence)]
    assert [finding.what for finding in found] == [f"{task}: CT - student" for task in TASKS]
    assert [finding.unit for finding in found] == ["top-1", "AP", "mask AP", "mIoU"]
    assert all(list(finding.differences) == [3.0, 4.0] for finding in found)
    assert [finding.paper for finding in found] == [3.28, 3.9, 2.8, 4.66]
    assert direct.findings(evidence) == []  # MIMIC wasn't run
    part = Evidence(InventedTasks(known, "cityscapes"))  # it has one task of the four
    assert [len(test.findings(part)) for test in gains] == [0, 0, 0, 1]
    mimic = Evidence(InventedTasks(known | everywhere("MIMIC", (52.0, 53.0))))
    assert [finding.mean for finding in direct.findings(mimic)] == [1.5] * 4


def test_correlation_is_numpys():
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(3, 50, generator=generator), torch.randn(4, 50, generator=generator)
    expected = np.corrcoef(one.double(), other.double())[:3, 3:]
    np.testing.assert_allclose(correlations(one, other), expected, rtol=1e-9)
    one[1] = 0.1  # says nothing
    assert correlations(one, other)[1].tolist() == [0, 0, 0, 0]


def test_cka_sees_through_rotations():
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(4, 200, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    assert linear_cka(one, 3 * rotation @ one + 1) == pytest.approx(1)
    x, y = (z - z.mean(1, keepdim=True) for z in (one, one.roll(1, 1)))
    hsic = [torch.trace(a.T @ a @ b.T @ b) for a, b in ((x, y), (x, x), (y, y))]  # the definition
    expected = hsic[0] / (hsic[1] * hsic[2]).sqrt()
    assert linear_cka(one, one.roll(1, 1)) == pytest.approx(expected.item())


def test_matches_of_a_permutation():
    teacher = torch.randn(5, 300, generator=torch.Generator().manual_seed(0))
    teacher[4] = 1  # the same everywhere: left out
    shuffled = -teacher[[3, 0, 2, 1, 4]]
    table = matches(
        {"": Channels(shuffled, None, teacher), "CT_f": Channels(shuffled, teacher, teacher)}
    )
    assert table["best |r|"].tolist() == pytest.approx([1, 1])
    assert table["CKA"].tolist() == pytest.approx([1, 1])
    assert math.isnan(table.loc["", "own r"])
    assert table.loc["CT_f", "own r"] == pytest.approx(1)


@pytest.mark.parametrize("task", TASKS)
def test_what_was_trained_along_is_found_again(task, tmp_path, monkeypatch, data_root):
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    workspace = open_profile("smoke", str(data_root), device="cpu")
    pair = pairs_of(workspace.profile)[task]
    recipe = "CT_fpn" if task in TASKS[1:3] else "CT_f"
    run = workspace.profile.run(recipe, 0, pair.student)
    found = channels_of(workspace, run, pair, count=2)
    assert found.after.shape == found.teacher.shape
    assert found.before.shape[1] == found.teacher.shape[1]
    learnt = torch.load(RunFolder(tmp_path, run).done / "checkpoint.pt", weights_only=True)
    last = next(v for k, v in learnt["learnt"].items() if "transform.2.weight" in k)
    assert found.after.shape[0] == last.shape[0]
    fresh = channels_of(workspace, workspace.profile.run("", 0, pair.student), pair, count=2)
    assert fresh.after is None
    (RunFolder(tmp_path, run).done / "checkpoint.pt").write_bytes(b"no")
    with pytest.raises(CwdError, match=r"checkpoint.pt is missing or damaged"):
        channels_of(workspace, run, pair, count=2)


def test_large_maps_are_looked_at_in_all_their_columns():
    level = torch.arange(128 * 256.0).view(1, 128, 256)
    one = some_positions(level)
    assert one.shape == (1, 512)
    assert torch.equal(one, some_positions(level))
    assert len((one % 256).unique()) > 200  # of 256 columns; chance says 221
    small = torch.randn(3, 9, 17)
    assert torch.equal(some_positions(small), small.flatten(1))
