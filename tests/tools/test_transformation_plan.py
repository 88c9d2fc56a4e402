"""The plan of the second paper's networks: Mask R-CNN and classifiers, and their datasets."""

import json
import math
from dataclasses import asdict, replace

import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cwd.config.run import Data, Run
from cwd.config.schedule import ClassificationSchedule, DetectionSchedule
from cwd.data import download, fake_trees
from cwd.data.classification import folders
from cwd.data.classification.crops import crops_folder
from cwd.data.segmentation import classes_of
from cwd.experiments.profile import load_profile, profile_names
from cwd.experiments.records import Records
from cwd.experiments.study import every_run
from cwd.models.build import build_network
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.tools import pace, pace_whole, workload
from cwd.tools import plan as planning
from cwd.tools.kinds import Watches, find_kinds, heading
from cwd.tools.needs import CHECKPOINT_EACH, RunSize, dataset_needs, run_size, weight_needs
from cwd.tools.pace_whole import WholeStopwatch, training_step
from cwd.tools.plan import gpu_sentence, plan
from cwd.tools.rehearse import parts
from cwd.tools.workload import detector_multiply_adds, mask_multiply_adds, random_objects
from cwd.training.loop import train

MASKED = "MaskRCNN-R18(0.125, fpn=16, anchor=16, regions=16)"
CLASSIFIER = "Classifier-MBV1(0.25, stride=8)"
SCENES = Data("scenes", size=(64, 128), train=6, val=2)


def masked():
    """The smallest Mask R-CNN, alone."""
    settings = {"steps": 2, "batch": 2, "lr": 0.001, "short": 64, "long": 128, "warmup": 1}
    return Run(SCENES, MASKED, DetectionSchedule(**settings))


def classifier(**schedule):
    """The smallest classifier, alone."""
    settings = {"steps": 2, "batch": 4, "lr": 0.01, "crop": 32, "short": 36}
    data = replace(SCENES, name="crops")
    return Run(data, CLASSIFIER, ClassificationSchedule(**settings | schedule))


def taught(run, recipe):
    """The same with a teacher of its kind that is wider."""
    wider = run.network.replace("R18(0.125", "R18(0.25").replace("MBV1(0.25", "MBV1(0.5")
    return replace(run, recipe=recipe, teacher=replace(run, network=wider))


@pytest.mark.parametrize("name", sorted({*profile_names()} - {"smoke", "scenes", "coco"}))
def test_every_profile_is_planned(name, place, clock, capsys, monkeypatch):
    """The three others are planned in the other files, with their sizes."""
    for module in (pace, pace_whole):
        monkeypatch.setattr(module, "multiply_adds", lambda *a: math.prod(a[-1]))
    monkeypatch.setattr(workload, "detector_multiply_adds", lambda *a: (math.prod(a[-1]), 0))
    monkeypatch.setattr(planning, "run_size", lambda run: RunSize(1, 2))
    monkeypatch.setattr(pace, "maps_of", lambda *a: parts.SegmentationOutput((9,), (9,), None))
    table = pd.read_csv(plan(name, data_root=place / "data", device="cpu"))
    assert table["left"].sum() == len(every_run(Records(load_profile(name))))
    assert not (place / "data").exists()
    said = capsys.readouterr().out
    assert max(len(line) for line in said.splitlines() if str(place) not in line) <= 100


def test_imagenet_is_planned(place, clock, capsys):
    table = pd.read_csv(
        plan("imagenet", data_root=place / "data", device="cpu"), keep_default_na=False
    )
    assert table["recipe"].tolist() == ["", "", "MIMIC_f", "CW_f", "CT_f"]
    teacher, *students = table.to_dict("records")
    assert (teacher["network"], teacher["init"]) == ("Classifier-R50", "timm:resnet50.tv_in1k")
    assert (teacher["steps"], teacher["seconds_per_step"], teacher["hours_left"]) == (0, 0, 0)
    assert teacher["step_from"] == ""
    assert {line["step_from"] for line in students} == {"step"}
    assert {line["size"] for line in students} == {"224x224"}
    assert [given["batch"] for _, given in clock] == [2] * 4  # of 256, and none of the teacher
    hours = 4 * 500_400 * 0.5 * 128 / 3600
    assert table["hours_in_all"].sum() == pytest.approx(hours, rel=1e-6)
    said = " ".join(capsys.readouterr().out.split())
    assert "resnet50.tv_in1k: as it comes, crop 224x224 alone, the teacher 1 0 0 1 0" in said
    assert "MBV1 from random weights: 500,400 steps, batch 256, crop 224x224" in said
    assert "the whole step of a classifier, measured on it with random images" in said
    assert "measuring top-1 come on top" in said
    assert "without its heads" not in said
    assert "public weights, timm:resnet50.tv_in1k, unless cached 97." in said


def test_the_profiles_schedules_are_the_usual_ones():
    pair = load_profile("imagenet").transformation.classification
    assert pair.student.schedule == ClassificationSchedule(checkpoint_every=1000)
    steps = 1_281_167 // 256
    assert pair.student.schedule.steps == 100 * steps
    epochs = [29, 30, 59, 60, 89, 90]
    shares = [pair.student.schedule.lr_factor(epoch * steps) for epoch in epochs]
    assert shares == pytest.approx([1, 0.1, 0.1, 0.01, 0.01, 0.001])
    coco = load_profile("coco")
    assert coco.transformation.instance.student.schedule == coco.detection.pairs[0].student.schedule
    assert coco.transformation.instance.student.network == "MaskRCNN-R50"
    for profile in (coco, load_profile("cityscapes")):
        assert profile.transformation.seeds == (0,)


@pytest.mark.parametrize(
    ("name", "published"), [("Classifier-R50", 4.09), ("Classifier-MBV1", 0.569)]
)
def test_classifiers_cost_what_is_published(place, name, published):
    """torchvision's documentation of ResNet-50, and Table 4 of the MobileNet paper."""
    watch = WholeStopwatch("cpu", 1000, paths.BUILD)
    assert watch.multiply_adds(name, (224, 224)) / 1e9 == pytest.approx(published, rel=0.003)


def test_masks_are_counted_as_computed():
    """Against operations counted while a real network works on the CPU, and by hand."""
    size, classes = (64, 160), 5
    network = build_network(MASKED, classes)
    levels = network(torch.randn(1, 3, *size)).levels
    boxes = [torch.tensor([[3.0, 4, 40, 50]] * 16)]
    with torch.no_grad(), FlopCounterMode(display=False) as heads:
        network.first_stage(levels)
        network.second_stage(levels, boxes, size)
        network.mask_logits(levels, [boxes[0][:4]], size)
    body, counted = detector_multiply_adds(MASKED, classes, size)
    assert counted == heads.get_total_flops() // 2
    assert detector_multiply_adds(MASKED.replace("Mask", "Faster"), classes, size)[0] == body
    published = build_network("MaskRCNN-R50", 80, device="meta")
    one = 14**2 * (4 * 9 * 256**2 + 4 * 256**2) + 28**2 * 256 * 81
    assert mask_multiply_adds(published, 3) == 3 * one


def test_operations_by_hand(place):
    run = taught(classifier(), "CT_f")
    watch = WholeStopwatch("cpu", 8, paths.BUILD)
    student, teacher = (
        watch.multiply_adds(network, (32, 32)) for network in (run.network, run.teacher.network)
    )
    assert 2 * student < teacher < 4 * student
    assert watch.operations(run) == 2 * 4 * (3 * student + teacher)
    assert watch.operations(run.baseline()) == 2 * 4 * 3 * student


def test_a_watch_for_each_kind_and_number_of_classes(place, clock):
    watches = Watches("cpu", paths.BUILD)
    first, second = watches.of(masked()), watches.of(classifier())
    assert first is not second
    assert watches.of(taught(masked(), "CT_fpn")) is first
    assert watches.of(replace(masked(), data=Data("coco"))).classes == 80
    assert watches.of(replace(classifier(), data=Data("imagenet"))).classes == 1000
    first.step(masked())
    second.step(classifier())
    again = Watches("cpu", paths.BUILD)  # they share a file, and neither lost what the other wrote
    again.of(masked()).step(masked())
    again.of(classifier()).step(classifier())
    assert len(clock) == 2


def test_a_run_without_steps(place, clock):
    """Its record has seconds, by which nothing is divided, and no work."""
    run = classifier(steps=0)
    hardware = {"device": "cuda", "name": "T", "threads": 1}
    sessions = [{"hardware": hardware, "seconds": 3.0}]
    kept = {
        "run": asdict(run),
        "metrics": {"top1": 1.0},
        "provenance": {"seconds": 3.0, "sessions": sessions},
    }
    records = Records(load_profile("imagenet"), paths.RUNS, paths.RESULTS)
    path = paths.RESULTS / "imagenet" / f"{run.name}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(kept))
    (kind,) = find_kinds([run], records, Watches("cpu", paths.BUILD))
    assert (kind.recorded, kind.seconds, kind.source, kind.hours(5)) == (1, 0, "", 0)
    assert heading(run).endswith("from random weights: as it comes, crop 32x32")
    teacher = records.profile.transformation.classification.teacher
    path.rename(path.with_name(f"{teacher.name}.json"))
    assert "ASSUMED" in gpu_sentence([kind], Watches("cpu", paths.BUILD), records, 30.0)


@pytest.mark.parametrize(
    "run",
    [classifier(), taught(classifier(), "CT_f"), masked(), taught(masked(), "CT_fpn")],
    ids=lambda run: run.title,
)
def test_a_step_is_the_trainers(monkeypatch, run):
    """Student in training mode, teacher in eval mode without targets; no weight moves."""
    built, seen = [], []
    make = pace_whole.network_of

    def build(*args):
        built.append(make(*args))
        return built[-1]

    monkeypatch.setattr(pace_whole, "network_of", build)
    torch.manual_seed(0)
    size = (32, 32) if run.data.name == "crops" else (64, 128)
    step = training_step(run, 8, batch=2, crop=size, device="cpu", fast=False)
    for network in built:
        network.register_forward_pre_hook(
            lambda module, given: seen.append((module, module.training, len(given[1:2])))
        )
    before = {name: value.clone() for name, value in built[0].named_parameters()}
    loss = step()
    assert math.isfinite(loss)
    assert [module for module, *_ in seen] == built
    assert [training for _, training, _ in seen] == [True, False][: len(built)]
    for name, value in built[0].named_parameters():
        assert value.equal(before[name])
    assert sum(float(p.grad.norm()) for p in built[0].parameters() if p.grad is not None) > 0
    assert not [p for network in built[1:] for p in network.parameters() if p.grad is not None]


def test_random_masks_fill_their_boxes():
    (objects,) = random_objects(1, (64, 160), 5, "cpu", masks=True)
    assert objects.masks.shape == (7, 64, 160)
    for box, mask in zip(objects.boxes, objects.masks, strict=True):
        left, top, right, bottom = (math.floor(side + 0.5) for side in box.tolist())
        assert mask[top:bottom, left:right].all()
        assert mask.sum() == (right - left) * (bottom - top)
    assert random_objects(1, (64, 160), 5, "cpu")[0].masks is None


@pytest.mark.parametrize("run", [taught(masked(), "CT_fpn"), taught(classifier(), "CT_f")])
def test_disk_of_a_trained_run(run, data_root, tmp_path):
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
        exact = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        assert size.checkpoint == exact + CHECKPOINT_EACH * len(tensors)


def test_disk_of_a_run_without_steps(data_root, tmp_path):
    run = classifier(steps=0)
    folder = train(run, runs=tmp_path, data_root=data_root, device="cpu").done
    size = run_size(run)
    assert not (folder / "checkpoint.pt").exists()
    student = (folder / "student.safetensors").stat().st_size
    assert (size.checkpoint, size.kept, size.peak) == (0, size.student, size.student)
    assert size.student == pytest.approx(student, rel=0.02)


def test_classes():
    assert classes_of(classifier()) == classes_of(masked()) == 8
    assert classes_of(replace(classifier(), data=Data("imagenet"))) == 1000
    with pytest.raises(CwdError, match="no classification dataset 'coco'"):
        classes_of(replace(classifier(), data=Data("coco")))


def test_crops_need_their_scenes(data_root, tmp_path):
    data = classifier().data
    scenes, crops = dataset_needs(data, tmp_path)
    assert [scenes] == dataset_needs(SCENES, tmp_path)  # which are counted once
    assert (crops.download, crops.size) == (0, 64 * 128 * 8)
    train(classifier(steps=0), runs=tmp_path, data_root=data_root, device="cpu")
    files = crops_folder(data, data_root).rglob("*.png")
    assert 0 < sum(path.stat().st_size for path in files) < crops.size
    assert [need.size for need in dataset_needs(data, data_root)] == [0, 0]
    assert all("present" in need.what for need in dataset_needs(data, data_root))


def test_imagenet_is_got_by_hand(tmp_path):
    (need,) = dataset_needs(Data("imagenet"), tmp_path)
    assert need.download == 147_897_477_120 + 6_744_924_160
    assert need.size == 2 * need.download
    assert "image-net.org's archives" in need.what
    root = fake_trees.imagenet(tmp_path / "imagenet")
    assert dataset_needs(Data("imagenet"), tmp_path)[0].size == 0
    (root / "val").rename(tmp_path / "elsewhere")
    (need,) = dataset_needs(Data("imagenet"), tmp_path)
    assert (need.download, need.what.split(" in ")[0]) == (6_744_924_160, "imagenet: val missing")


def test_weights_of_classifiers():
    public = replace(classifier(), network="Classifier-R50", init="imagenet")
    named = replace(public, init="timm:resnet50.a1_in1k")
    known, other = weight_needs([public, named, classifier()])
    assert known.what == "public weights, timm's resnet50.tv_in1k, unless cached"
    assert "timm:resnet50.a1_in1k" in other.what
    # 25,557,032 weights, and the mean, variance and count of 53 norms: ImageNet's classifier too
    assert known.download == 4 * (25_557_032 + 2 * 26_560) + 8 * 53


def test_obtain(tmp_path, monkeypatch):
    with pytest.raises(CwdError, match=r"holds no imagenet .* register at image-net\.org"):
        download.obtain("imagenet", tmp_path)
    assert "need no download" in download.obtain("crops", tmp_path)
    root = fake_trees.imagenet(tmp_path / "ImageNet")
    with pytest.raises(CwdError, match="has 6 images in train, expected 1281167"):
        download.obtain("imagenet", tmp_path)
    small = replace(folders.FOLDER_LAYOUTS["imagenet"], counts={"train": 6, "val": 3})
    monkeypatch.setitem(folders.FOLDER_LAYOUTS, "imagenet", small)
    assert download.obtain("imagenet", tmp_path) == (
        f"imagenet is in {root}: 6 train, 3 val, 3 classes; every file decoded and checked."
    )
    damaged = sorted((root / "val").rglob("*.JPEG"))[-1]
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises(CwdError, match=f"{damaged.name} can't be decoded"):
        download.obtain("imagenet", root)
