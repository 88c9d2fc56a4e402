"""The plan of detectors: sizes, counts and hours against numbers by hand and trained runs."""

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cwd.config.run import Data, Run
from cwd.config.schedule import DetectionSchedule
from cwd.data.segmentation import classes_of
from cwd.experiments.profile import load_profile
from cwd.experiments.records import Records
from cwd.experiments.rows_detection import METHODS
from cwd.experiments.study import every_run
from cwd.models.build import build_network
from cwd.models.names import DETECTOR, kind_of
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.tools import pace, pace_whole, workload
from cwd.tools import plan as planning
from cwd.tools.needs import CHECKPOINT_EACH, RunSize, run_size, weight_needs
from cwd.tools.pace_whole import WholeStopwatch, training_step
from cwd.tools.plan import plan
from cwd.tools.workload import (
    detector_multiply_adds,
    detector_of,
    image_size,
    random_objects,
)
from cwd.training.loop import train

TINY = {
    "FasterRCNN": "FasterRCNN-R18(0.125, fpn=16, anchor=16, regions=16)",
    "RetinaNet": "RetinaNet-R18(0.125, fpn=16, anchor=16)",
    "RepPoints": "RepPoints-R18(0.125, fpn=16)",
}


def tiny(kind, data_size=(64, 128), **schedule):
    """The smallest detector of a kind, alone."""
    settings = {"steps": 2, "batch": 2, "lr": 0.001, "short": 64, "long": 128, "warmup": 1}
    data = Data("scenes", size=data_size, train=6, val=2)
    return Run(data, TINY[kind], DetectionSchedule(**settings | schedule))


def taught(run, recipe):
    """The same with a teacher of its kind."""
    teacher = replace(run, network=run.network.replace("0.125", "0.25"))
    return replace(run, recipe=recipe, teacher=teacher)


def check_plan(name, place, capsys, monkeypatch):
    """Plan a profile, compare the table with its runs, and give what was printed."""
    monkeypatch.setattr(planning, "run_size", lambda run: RunSize(1, 2))  # for time
    table = pd.read_csv(plan(name, data_root=place / "data", device="cpu"), keep_default_na=False)
    profile, said = load_profile(name), capsys.readouterr().out
    runs = every_run(Records(profile))
    assert table["runs"].sum() == table["left"].sum() == len(runs)
    detect = table["network"].map(kind_of) == DETECTOR
    assert set(table["step_from"][detect]) == {"step"}
    detectors = [run.schedule for run in runs if kind_of(run.network) == DETECTOR]
    sizes = {f"{schedule.short}x{schedule.long}" for schedule in detectors}
    assert set(table["size"][detect]) == sizes
    assert ('From "step"' in said, 'From "parts"' in said) == (True, not detect.all())
    assert "ASSUMED 30 TFLOP/s" in said
    assert max(len(line) for line in said.splitlines() if str(place) not in line) <= 100
    assert not (place / "data").exists()
    return said


def test_scenes_is_planned(place, clock, capsys, monkeypatch):
    # counting takes longer than all the rest
    monkeypatch.setattr(pace, "multiply_adds", lambda *a: 1000 * math.prod(a[-1]))
    monkeypatch.setattr(pace_whole, "multiply_adds", lambda *a: 1000 * math.prod(a[-1]))
    monkeypatch.setattr(workload, "detector_multiply_adds", lambda *a: (math.prod(a[-1]), 0))
    said = check_plan("scenes", place, capsys, monkeypatch)
    assert said.count("scenes: drawn into") == 1  # by both tasks
    assert "from random weights: 1,500 steps, batch 8, images 256x512" in " ".join(said.split())


def test_coco_is_the_papers(place, clock, capsys, monkeypatch):
    monkeypatch.setattr(pace, "AFFORDED", float("inf"))  # so that only one size is counted
    profile = load_profile("coco")
    assert (profile.data, profile.teacher, profile.student) == (None, None, None)
    assert profile.detection.seeds == (0,)
    rates = {}
    for pair in profile.detection.pairs:
        assert pair.student.network.endswith("-R50")
        assert (pair.student.init, pair.teacher.init) == ("imagenet", "imagenet")
        rates[pair.name] = pair.student.schedule.lr, pair.teacher.schedule.lr
        schedule = DetectionSchedule(lr=pair.student.schedule.lr, checkpoint_every=1000)
        assert pair.student.schedule == schedule
        # the rate falls after whole epochs of 7,330 steps, so that all images and a last batch fit
        steps = 117_266 // 16 + 1
        shares = [schedule.lr_factor(epoch * steps) for epoch in (15, 16, 21, 22)]
        assert shares == pytest.approx([1, 0.1, 0.1, 0.01])
        assert schedule.steps == 24 * steps
        shorter = pair.name == "RetinaNet"
        assert pair.teacher.schedule.steps == (12 if shorter else 24) * steps
    assert rates == {
        "Faster R-CNN": (0.02, 0.02),
        "RetinaNet": (0.01, 0.01),
        "RepPoints": (0.01, 0.01),
    }
    said = check_plan("coco", place, capsys, monkeypatch)
    assert "RetinaNet-X101-64x4d from imagenet: 87,960 steps, batch 16, images 800x1333" in said
    assert "timm's resnext101_64x4d.tv_in1k" in said
    assert "one of the teacher, a detector's without its heads" in " ".join(said.split())


def test_a_slow_machine_measures_less(place, clock):
    run = load_profile("coco").detection.pairs[0].student
    watch = WholeStopwatch("cpu", 80, paths.BUILD)
    found = watch.step(run)
    (size,) = watch.smaller.values()
    (args, given), *_ = clock
    assert args[0] == run
    assert (given["batch"], given["crop"]) == (2, size)
    assert not any(side % 32 for side in size)
    counts = [sum(detector_multiply_adds(run.network, 80, s)) for s in ((800, 1344), size)]
    assert 2 * counts[1] == pytest.approx(pace.AFFORDED, rel=0.2)
    assert found == pytest.approx(0.5 * 8 * counts[0] / counts[1])  # two of sixteen were measured
    small = replace(tiny("RetinaNet"), schedule=replace(run.schedule, short=64, long=128))
    assert watch.step(small) == 0.5  # a batch that it can afford
    assert clock[-1][1]["batch"] == 16


def test_measured_once(place, clock):
    watch, run = WholeStopwatch("cpu", 8, paths.BUILD), tiny("RepPoints")
    assert watch.step(run) == 0.5
    assert watch.step(taught(run, "CW_fpn")) == 0.5
    assert watch.step(replace(run, init="elsewhere.pth")) == 0.5  # of which less is learnt
    assert len(clock) == 3
    again = WholeStopwatch("cpu", 8, paths.BUILD)
    assert again.step(run) == again.step(replace(run, seed=1)) == 0.5
    assert len(clock) == 3


@pytest.mark.parametrize("kind", TINY)
def test_counted_as_computed(kind):
    """Against operations counted while a real network works on the CPU."""
    size, classes = (64, 160), 5
    network = build_network(TINY[kind], classes)
    with torch.no_grad(), FlopCounterMode(display=False) as body:
        levels = network(torch.randn(1, 3, *size)).levels
    with torch.no_grad(), FlopCounterMode(display=False) as heads:
        if kind == "FasterRCNN":
            network.first_stage(levels)
            network.second_stage(levels, [torch.tensor([[3.0, 4, 40, 50]] * 16)], size)
        elif kind == "RetinaNet":
            network.answers(levels)
        else:
            network.head(levels)
    counted = body.get_total_flops() // 2, heads.get_total_flops() // 2
    assert detector_multiply_adds(TINY[kind], classes, size) == counted


def test_retinanet_costs_what_mmdetection_says():
    """Its documentation counts 239.32 G multiply-adds for 1280x800, and 37.74 M that are learnt."""
    counted = detector_multiply_adds("RetinaNet-R50", 80, (800, 1280))
    assert sum(counted) / 1e9 == pytest.approx(239.32, rel=0.005)
    run = load_profile("coco").detection.pairs[1].student
    network = detector_of(run, 80, device="meta")
    learnt = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    assert learnt / 1e6 == pytest.approx(37.74, abs=0.005)


def test_operations_by_hand(place):
    watch, run = WholeStopwatch("cpu", 8, paths.BUILD), taught(tiny("FasterRCNN"), "Wang")
    body, heads = detector_multiply_adds(run.network, 8, (64, 128))
    teacher, _ = detector_multiply_adds(run.teacher.network, 8, (64, 128))
    assert watch.operations(run) == 2 * 2 * (3 * (body + heads) + teacher)
    assert watch.operations(run.baseline()) == 2 * 2 * 3 * (body + heads)
    assert not watch.keeps_teacher(run, 1)


@pytest.mark.parametrize(
    ("data", "short", "long", "expected"),
    [
        (Data("coco"), 800, 1333, (800, 1344)),
        (Data("coco", size=(10, 10)), 600, 900, (608, 928)),
        (Data("scenes", size=(64, 128)), 64, 128, (64, 128)),
        (Data("scenes", size=(100, 400)), 64, 128, (32, 128)),  # the long side decides
    ],
)
def test_padded_size(data, short, long, expected):
    run = Run(data, TINY["RetinaNet"], DetectionSchedule(short=short, long=long))
    assert image_size(run) == expected


def test_classes():
    run = tiny("RetinaNet")
    assert classes_of(run) == 8
    assert classes_of(replace(run, data=Data("coco"))) == 80
    assert classes_of(load_profile("smoke").student) == 19
    with pytest.raises(CwdError, match="no detection dataset 'voc'"):
        classes_of(replace(run, data=Data("voc")))


def test_random_objects_are_in_their_image():
    (objects, _) = random_objects(2, (64, 160), 5, "cpu")
    left, top, right, bottom = objects.boxes.unbind(dim=1)
    assert min(left.min(), top.min()) >= 0
    assert right.max() <= 160
    assert bottom.max() <= 64
    assert min((right - left).min(), (bottom - top).min()) > 6
    torch.testing.assert_close(objects.area, (right - left) * (bottom - top))
    assert set(objects.labels.tolist()) <= set(range(5))


@pytest.mark.parametrize(
    ("kind", "recipe"),
    [("FasterRCNN", recipe) for recipe in METHODS.values()]
    + [("RetinaNet", "Heo"), ("RetinaNet", "CW_fpn"), ("RepPoints", "Zhang")],
)
def test_a_step_is_the_trainers(monkeypatch, kind, recipe):
    """Student with targets, teacher without and in eval mode; no weight moves."""
    run = tiny(kind, clip=1e-6)
    run, built = taught(run, recipe) if recipe else run, []

    def build(*args, **given):
        built.append(build_network(*args, **given))
        return built[-1]

    monkeypatch.setattr(workload, "build_network", build)
    torch.manual_seed(0)
    step = training_step(run, 8, batch=2, crop=(64, 128), device="cpu", fast=False)
    seen = []
    for network in built:
        network.register_forward_pre_hook(
            lambda module, given: seen.append((module, len(given) > 1 and given[1] is not None))
        )
    before = {name: value.clone() for name, value in built[0].named_parameters()}
    first, second = step(), step()
    assert math.isfinite(first)
    assert math.isfinite(second)
    student, *teacher = built
    assert seen == 2 * [(student, True), *((network, False) for network in teacher)]
    assert student.training
    assert not any(network.training for network in teacher)
    for name, value in student.named_parameters():
        assert value.equal(before[name])
        assert value.grad.norm() < 1e-5
        assert not [p for network in teacher for p in network.parameters() if p.grad is not None]


def test_no_room_in_the_gpu(place, monkeypatch):
    def full(step, device):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(pace, "timed", full)
    with pytest.raises(
        CwdError, match=r"a training step of RetinaNet.* lower the schedule's batch, short"
    ):
        WholeStopwatch("cpu", 8, paths.BUILD).step(tiny("RetinaNet"))


@pytest.mark.parametrize(("kind", "recipe"), [("FasterRCNN", "Chen"), ("RepPoints", "Zhang")])
@pytest.mark.parametrize("init", ["random", "file"])
def test_disk_of_a_trained_run(kind, recipe, init, data_root, tmp_path):
    run = taught(tiny(kind), recipe)
    if init == "file":  # the stem and the first stage aren't learnt, so they have no momentum
        path = tmp_path / "backbone.pth"
        torch.save(build_network(run.network, 8).backbone.state_dict(), path)
        run = replace(run, init=str(path))
    for each in (run.teacher, run):
        folder = train(
            each, runs=tmp_path, data_root=data_root, device="cpu", allow_weak_teacher=True
        )
        size, file = run_size(each), folder.done / "checkpoint.pt"
        student = folder.done / "student.safetensors"
        assert size.student == pytest.approx(student.stat().st_size, rel=0.02)
        assert size.checkpoint == pytest.approx(file.stat().st_size, rel=0.06)
        saved = torch.load(file)
        momenta = [state["momentum_buffer"] for state in saved["optimizer"]["state"].values()]
        tensors = [*saved["learnt"].values(), *momenta]
        # what a file adds to each tensor differs a little, so that here all but that is compared
        exact = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        assert size.checkpoint == exact + CHECKPOINT_EACH * len(tensors)


def test_weights():
    runs = [
        replace(tiny("RetinaNet"), network=network, init=init)
        for network, init in [
            ("RetinaNet-R50", "imagenet"),
            ("FasterRCNN-R50", "imagenet"),
            ("RetinaNet-X101-64x4d", "imagenet"),
            ("RetinaNet-R50", "timm:resnet50.a1_in1k"),
            ("RetinaNet-R50", "random"),
        ]
    ]
    names = [need.what for need in weight_needs(runs)]
    assert names == [
        "public weights, timm's resnet50.tv_in1k, unless cached",
        "public weights, timm's resnext101_64x4d.tv_in1k, unless cached",
        "public weights, timm:resnet50.a1_in1k, unless cached",
    ]
    body = build_network("RetinaNet-R50", 80, device="meta").backbone
    size = sum(t.numel() * t.element_size() for t in body.state_dict().values())
    assert weight_needs(runs)[0].download == size
