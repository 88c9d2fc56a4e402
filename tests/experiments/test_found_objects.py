"""What the appendix shows of trained detectors, and the claims about them."""

import json
import re
from dataclasses import replace

import pytest
import torch
from invented import InventedTasks, write_record
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from cwd.experiments import found_objects, study
from cwd.experiments.claims.comparisons import Evidence
from cwd.experiments.claims.judging import CLAIMS, side_by_side, verdicts
from cwd.experiments.profile import load_profile
from cwd.experiments.records import Records
from cwd.experiments.rows_pairs import MEASURES
from cwd.experiments.workspace import Workspace
from cwd.figures import detection
from cwd.figures.style import CHANNEL, STUDENT
from cwd.models.detection.outputs import Detections, Objects
from cwd.system import paths
from cwd.tools.front import front
from cwd.tools.report import render


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, data_root):
    """RetinaNet of the smoke profile, trained."""
    smoke = load_profile("smoke")
    pairs = replace(smoke.detection, pairs=smoke.detection.pairs[1:2])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RUNS", tmp_path_factory.mktemp("runs"))
        patch.setattr(paths, "BUILD", tmp_path_factory.mktemp("build"))
        opened = Workspace(replace(smoke, detection=pairs), data_root, "cpu")
        opened.train_all(found_objects.networks(opened, *pairs.pairs).values())
        yield opened


@pytest.fixture
def pair(workspace):
    return workspace.detection.pairs[0]


def test_curves(workspace):
    ((detector, networks),) = found_objects.curves(workspace).items()
    assert detector == "RetinaNet"
    assert list(networks) == ["teacher", "student", "student, CW_fpn"]
    assert all(len(curve) == 101 for curve in networks.values())
    figure = detection.precision_recall({detector: networks})
    colours = [to_hex(line.get_color()) for line in figure.axes[0].lines]
    assert colours[1:] == [STUDENT, CHANNEL]


def test_a_few_images_are_found_as_among_all(workspace, pair):
    dataset = workspace.images(pair.student)[1]
    few = found_objects.pictured(workspace, pair, dataset, [5, 2])
    for name, run in found_objects.networks(workspace, pair).items():
        whole = found_objects.found(workspace, run, dataset)
        for mine, other in zip(few[name], (whole[5], whole[2]), strict=True):
            torch.testing.assert_close(mine.boxes, other.boxes)


def test_crowded_images_come_in_their_order(workspace, pair):
    dataset = workspace.images(pair.student)[1]
    numbers = [len(dataset.annotated(index).labels) for index in range(len(dataset))]
    chosen = found_objects.crowded(dataset, 3)
    assert chosen == sorted(chosen)
    assert sorted(numbers[i] for i in chosen) == sorted(numbers)[-3:]
    table = found_objects.contents({"val": dataset})
    assert table.loc["val", "objects"] == sum(numbers)


def test_divergence_by_hand(workspace, pair):
    image = workspace.images(pair.student)[1][0].image
    levels = found_objects.pyramids(workspace, pair, image)
    assert [tuple(level.shape) for level in levels["teacher"]][:2] == [(16, 8, 16), (16, 4, 8)]
    table = found_objects.divergences(levels)
    assert list(table) == ["student", "student, CW_fpn"]
    goal, mine = (levels[n][1].double().flatten(1).softmax(1) for n in ("teacher", "student"))
    by_hand = (goal * (goal / mine).log()).sum(1).mean().item()
    assert table.loc[2, "student"] == pytest.approx(by_hand, rel=1e-3, abs=1e-7)
    padded = torch.arange(2 * 4 * 8).view(2, 4, 8)
    assert found_objects.inside(padded, (100 / 128, 200 / 256)).shape == (2, 4, 7)


def test_speed(workspace):
    table = found_objects.speed_table(workspace)
    assert list(table.index) == [("RetinaNet", "teacher"), ("RetinaNet", "student")]
    assert (table["frames/s"] > 0).all()
    kept = json.loads(found_objects.record_speed(workspace, table).read_text())
    assert kept["networks"][0]["paper's frames/s"] is None
    assert kept["networks"][1]["paper's frames/s"] == 20.0
    assert Records(workspace.profile, paths.RUNS).beside(paths.DETECTION_COSTS) == kept


def test_only_sure_boxes_are_drawn():
    boxes = torch.tensor([[1.0, 2, 9, 8], [3, 3, 12, 14], [0, 0, 5, 5]])
    labels = torch.tensor([0, 1, 1])
    found = Detections(boxes, torch.tensor([0.9, 0.5, 0.2]), labels)
    crowd = torch.tensor([False, True, False])
    there = Objects(boxes, labels, torch.ones(3), crowd)
    image = torch.zeros(3, 16, 16, dtype=torch.uint8)
    figure = detection.detections([image], {"annotated": [there], "student": [found]}, ("a", "b"))
    for axes, count in zip(figure.axes, (2, 2), strict=True):
        drawn = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
        assert len(drawn) == count
    assert drawn[0].get_bbox().bounds == (0.5, 1.5, 8, 6)


DETECTORS = [claim for claim in CLAIMS if claim.kind == "detectors"]


def test_claims_compare_detector_by_detector():
    known = {
        (kind, recipe): (ap, ap + step)
        for kind in ("FasterRCNN", "RetinaNet", "RepPoints")
        for recipe, ap, step in (("", 10.0, 1.0), ("CW_fpn", 13.0, 3.0), ("Zhang", 14.0, 1.0))
    }
    evidence = Evidence(InventedTasks(known))
    gain, rivals = DETECTORS
    found = gain.findings(evidence)
    assert [finding.what for finding in found] == [
        f"{name}: CWD - student" for name in ("Faster R-CNN", "RetinaNet", "RepPoints")
    ]
    assert all(list(finding.differences) == [3.0, 5.0] for finding in found)
    assert [round(finding.paper, 1) for finding in found] == [3.3, 3.4, 3.4]
    assert rivals.findings(evidence) == []  # Chen's, Wang's and Heo's runs are missing


def test_a_profile_without_detectors_has_no_such_claims():
    evidence = Evidence(InventedTasks({}, "camvid"))
    assert [test.findings(evidence) for test in DETECTORS] == [[], []]


def test_the_report_of_detectors_alone(tmp_path):
    source = Records(load_profile("coco"), None, tmp_path)
    folder = tmp_path / "coco"
    runs = [run for row in study("table9", source).rows for run in row.runs]
    for number, run in enumerate(runs):
        write_record(folder, run, dict.fromkeys(MEASURES, 30.0 + number / 10))
    claims = verdicts(source)
    page = render(source, claims, tmp_path / "out")
    assert re.findall("Not shown: (.*)", page) == ["7 of 10 rows of transformation, not measured."]
    assert "## Table 9. " in page
    assert list(side_by_side({source.profile: claims})) == ["coco"]
    assert "On coco, " in front([source], {source.profile: claims})
    written = {path.name for path in (tmp_path / "out").rglob("*.*")}
    assert {"table9.csv", "table9_gains.png", "table9_sizes.png", "claims.csv"} <= written
    assert "table2.csv" not in written
