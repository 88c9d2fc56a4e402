"""The plan: counts, hours, disk and downloads, against numbers by hand and trained runs."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from invented import PROVENANCE, finish, record_of, write_record
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

from cwd.config.run import Data, Run
from cwd.config.schedule import ClassificationSchedule, DetectionSchedule
from cwd.data import fake_trees
from cwd.data.classification.crops import crops_folder
from cwd.experiments.profile import load_profile, profile_names
from cwd.experiments.records import Records
from cwd.experiments.study import every_run
from cwd.models.build import build_network, count_multiply_adds
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.tools import needs, pace
from cwd.tools import plan as planning
from cwd.tools.needs import dataset_needs, in_words, run_bytes, shortages, weight_needs
from cwd.tools.operations import classes_of, image_size, multiply_adds, operations
from cwd.tools.pace import median_seconds, step_seconds
from cwd.tools.plan import plan
from cwd.tools.trial import AFFORDED, seconds_a_step, timed
from cwd.training import provenance

ELSEWHERE = {"device": "cpu", "name": "another", "threads": 64}
GPU = {"device": "cuda", "name": "NVIDIA T", "threads": 1}
SMOKE = load_profile("smoke")
PAIRS = {pair.name: pair for pair in (*SMOKE.detection.pairs, SMOKE.transformation.instance)}
CLASSIFIER = SMOKE.transformation.classification.student
SEGMENTS = SMOKE.run("HO + CW_f", 0)


def taught(name, recipe):
    """One of the smoke profile's detectors with its teacher; the classifier if there is no name."""
    return SMOKE.run(recipe, 0, PAIRS[name].student if name else CLASSIFIER)


@pytest.fixture
def quick_trials(monkeypatch):
    """Every step takes half a second; the list grows with every trial."""
    seen = []
    monkeypatch.setattr(pace, "seconds_a_step", lambda trial, *_: seen.append(trial) or 0.5)
    return seen


@pytest.fixture
def no_counting(monkeypatch):
    """Counting takes longer than all else."""
    adds = lambda network, classes, size: (math.prod(size), 0)  # noqa: E731
    monkeypatch.setattr("cwd.tools.operations.multiply_adds", adds)
    monkeypatch.setattr(planning, "run_bytes", lambda run: (1, 2))


def planned(place, name="smoke", **options):
    path = plan(name, data_root=place / "data", device="cpu", **options)
    assert not (place / "data").exists()  # nothing was drawn or downloaded
    return pd.read_csv(path, keep_default_na=False)


def took(seconds, hardware):
    """Of a run that took so long on some hardware."""
    (session,) = PROVENANCE["sessions"]
    return {"seconds": seconds, "sessions": [session | {"hardware": hardware}]}


def keep(run, seconds, hardware, *, profile="smoke", finished=False):
    """Put a run among the recorded ones, or among those that are finished here."""
    if finished:
        finish(paths.RUNS, run, **took(seconds, hardware))
    else:
        write_record(paths.RESULTS / profile, run, **took(seconds, hardware))


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_is_planned(name, place, quick_trials, no_counting, capsys):
    table, runs = planned(place, name), every_run(Records(load_profile(name)))
    assert table["runs"].sum() == table["left"].sum() == len(runs)
    assert len(table) == len({replace(run, seed=0) for run in runs})
    by_hand = (table["runs"] * table["steps"] * table["seconds_per_step"]).sum() / 3600
    assert table["hours_in_all"].sum() == pytest.approx(by_hand, abs=0.01)
    assert set(table["step_from"]) <= {"timed", "counted", ""}
    said = capsys.readouterr().out
    assert f"{len(runs)} runs: 0 finished, 0 recorded only, {len(runs)} left" in said
    assert "ASSUMED 30 TFLOP/s" in said
    tried = {(trial.network, bool(trial.teacher)) for trial in quick_trials}
    if name == "smoke":
        assert planned(place, name).equals(table)  # what was timed is kept
    assert len(quick_trials) == len(tried)  # each once


def test_more_operations_than_a_whole_number_of_64_bits_holds(place, monkeypatch):
    profile = load_profile("cityscapes")
    monkeypatch.setattr(planning, "operations", lambda run: 10**13)
    table = pd.DataFrame({"left": [50], "runs": [100]})
    said = planning.gpu_sentence(table, [profile.teacher], 30.0)
    # 80,000 steps of 10^13 operations at 30 TFLOP/s: 7.4 hours a run
    assert "about 370 GPU-hours left, 740 in all" in said


def test_done_and_left(place, quick_trials, capsys):
    smoke, here = SMOKE, provenance.hardware(torch.device("cpu"))
    keep(smoke.run("CW_f", 0), 8.0, here, finished=True)
    keep(smoke.run("CW_f", 1), 4.0, here)
    keep(smoke.run("PI", 0), 400.0, ELSEWHERE)
    keep(smoke.run("", 1), 12.0, here, finished=True)
    table = planned(place)
    mine = table[table["network"] == smoke.student.network].set_index("recipe")
    mine = mine[~mine.index.duplicated()]  # others are for other steps, or of another teacher
    columns = ["finished", "recorded", "left", "seconds_per_step", "step_from"]
    assert mine.loc["CW_f", columns].tolist() == [1, 1, 0, (8 / 4 + 4 / 4) / 2, "runs"]
    assert mine.loc["PI", columns].tolist() == [0, 1, 1, 1.5, "counted"]  # at the rate of CW_f
    assert mine.loc["", columns].tolist() == [1, 0, 1, 3.0, "runs"]
    # a trial takes half a second and is as large as the run
    alone, *_ = table[table["network"] == smoke.teacher.network].to_dict("records")
    assert (alone["seconds_per_step"], alone["step_from"]) == (0.5, "timed")
    assert quick_trials[0].recipe.count("+") == 2  # another student's, with the most losses
    total = len(every_run(Records(smoke)))
    said = capsys.readouterr().out
    assert f"{total} runs: 2 finished, 2 recorded only, {total - 4} left" in said


def test_which_runs_count():
    run, here = SMOKE.student, GPU | {"processes": 1}
    others = [ELSEWHERE, GPU | {"processes": 2}, GPU | {"threads": 3}]
    assert (
        median_seconds(run, [record_of(run, **took(4.0, other)) for other in others], here) is None
    )
    assert median_seconds(run, [record_of(run, **took(0.0, GPU))], here) is None
    records = [record_of(run, **took(seconds, GPU)) for seconds in (4.0, 8.0, 4000.0)]
    assert median_seconds(run, records, here) == 2.0  # one of them waited for something


def test_runs_without_steps(place, quick_trials, no_counting):
    teacher = load_profile("imagenet").transformation.classification.teacher
    keep(teacher, 3.0, GPU, profile="imagenet")  # it took time, by which nothing is divided
    line, *students = planned(place, "imagenet").to_dict("records")
    assert (line["steps"], line["seconds_per_step"], line["hours_left"]) == (0, 0, 0)
    assert (line["recorded"], line["step_from"]) == (1, "")
    assert [student["recipe"] for student in students] == ["", "MIMIC_f", "CW_f", "CT_f"]


@pytest.mark.parametrize("run", [SEGMENTS, taught("Mask R-CNN", "CT_fpn"), taught("", "CT_f")])
def test_a_trial_is_a_training(run, place):
    trial = timed(run, "cpu")
    assert (trial.network, trial.recipe) == (run.network, run.recipe)
    assert trial.schedule.batch == run.schedule.batch
    assert 0 < seconds_a_step(trial, "cpu", place / "plan") < 60
    assert list((place / "plan").iterdir()) == []


@pytest.mark.parametrize("name", ["cityscapes", "camvid", "voc", "ade20k", "coco", "imagenet"])
def test_a_slow_machine_is_timed_with_less(name, place):
    """Of each dataset, in its official layout; two images are the fewest."""
    run = load_profile(name).alone[-1]
    trial = timed(run, "cpu")
    assert trial.schedule.batch < run.schedule.batch
    assert operations(trial) < 2 * AFFORDED
    if name in ("camvid", "voc"):  # the others' trees are rehearsed
        schedule, data = replace(trial.schedule, steps=1, crop=(64, 64)), trial.data
        tiny = Run(replace(data, size=schedule.crop), "PSPNet-R18(0.125)", schedule)
        assert seconds_a_step(tiny, "cpu", place / "plan") > 0
    assert timed(run, "cuda").schedule.size == run.schedule.size


def test_no_room_in_the_gpu(place, monkeypatch):
    def full(*args, **given):
        raise torch.OutOfMemoryError

    monkeypatch.setattr("cwd.tools.trial.train", full)
    with pytest.raises(CwdError, match=r"step of PSPNet-R18\(0\.125\) alone.*4 images of 64x128"):
        step_seconds({SMOKE.student: []}, "cpu", {}, place)


@pytest.mark.parametrize("name", PAIRS)
def test_counted_as_computed(name):
    """Against operations counted while a real network works on the CPU."""
    name, size = PAIRS[name].student.network, (64, 160)
    network = build_network(name, 5)
    with torch.no_grad(), FlopCounterMode(display=False) as body:
        levels = network(torch.randn(1, 3, *size)).levels
    boxes = [torch.tensor([[3.0, 4, 40, 50]] * 16)]
    with torch.no_grad(), FlopCounterMode(display=False) as heads:
        if name.startswith("RetinaNet"):
            network.answers(levels)
        elif name.startswith("RepPoints"):
            network.head(levels)
        else:
            network.first_stage(levels)
            network.second_stage(levels, boxes, size)
    counted = body.get_total_flops() // 2, heads.get_total_flops() // 2
    assert multiply_adds(name, 5, size) == counted


@pytest.mark.parametrize(
    ("name", "classes", "size", "published"),
    [
        ("RetinaNet-R50", 80, (800, 1280), 239.32),  # mmdetection's documentation
        ("Classifier-R50", 1000, (224, 224), 4.09),  # torchvision's
        ("Classifier-MBV1", 1000, (224, 224), 0.569),  # Table 4 of the MobileNet paper
    ],
)
def test_networks_cost_what_is_published(name, classes, size, published):
    assert sum(multiply_adds(name, classes, size)) / 1e9 == pytest.approx(published, rel=0.005)


def test_operations_by_hand():
    student, asked = (
        count_multiply_adds(build_network(run.network, 19), SEGMENTS.schedule.crop)
        for run in (SEGMENTS, SEGMENTS.teacher)
    )
    assert operations(SEGMENTS) == 2 * 4 * (3 * student + asked)
    assert operations(SEGMENTS.baseline()) == 2 * 4 * 3 * student


@pytest.mark.parametrize(
    ("data", "short", "long", "padded", "classes"),
    [
        (Data("coco"), 800, 1333, (800, 1344), 80),
        (Data("scenes", size=(64, 128)), 64, 128, (64, 128), 8),
        (Data("scenes", size=(100, 400)), 64, 128, (32, 128), 8),  # the long side decides
    ],
)
def test_padded_size_and_classes(data, short, long, padded, classes):
    run = Run(data, "RetinaNet-R18", DetectionSchedule(short=short, long=long))
    assert (image_size(run), classes_of(run)) == (padded, classes)
    assert classes_of(replace(CLASSIFIER, data=Data("imagenet"))) == 1000
    assert (classes_of(CLASSIFIER), classes_of(SEGMENTS)) == (8, 19)


@pytest.mark.parametrize(
    "run",
    [SEGMENTS, taught("Faster R-CNN", "Chen"), taught("RepPoints", "Zhang"), taught("", "CT_f")],
)
def test_disk_of_a_trained_run(run, trained):
    for folder in map(trained, (run.teacher, run)):
        saved = torch.load(folder.done / "checkpoint.pt")
        momenta = [state["momentum_buffer"] for state in saved["optimizer"]["state"].values()]
        critic = [v for s in saved.get("critic", {"state": {}})["state"].values()
                  for name, v in s.items() if name != "step"]  # fmt: skip
        files = load_file(folder.done / "student.safetensors"), saved["learnt"]
        student, learnt = (sum(tensor.nbytes for tensor in file.values()) for file in files)
        state = sum(tensor.nbytes for tensor in [*momenta, *critic])
        assert run_bytes(folder.run) == (student, learnt + state)


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
    (need,) = dataset_needs(Data("imagenet"), tmp_path)  # which is got by hand
    assert need.download == 147_897_477_120 + 6_744_924_160
    assert need.size == 2 * need.download
    root = fake_trees.imagenet(tmp_path / "imagenet")
    assert dataset_needs(Data("imagenet"), tmp_path)[0].size == 0
    (root / "val").rename(tmp_path / "elsewhere")
    (need,) = dataset_needs(Data("imagenet"), tmp_path)
    assert (need.download, need.what.split(" in ")[0]) == (6_744_924_160, "imagenet: val missing")


def test_disk_of_crops_and_of_a_run_without_steps(trained, data_root, tmp_path):
    run = replace(CLASSIFIER, schedule=replace(CLASSIFIER.schedule, steps=0))
    scenes, crops = dataset_needs(run.data, tmp_path)
    assert [scenes] == dataset_needs(SMOKE.detection.data, tmp_path)  # which are counted once
    assert (crops.download, crops.size) == (0, 64 * 128 * 24)
    folder = trained(run).done
    assert not (folder / "checkpoint.pt").exists()
    size = (folder / "student.safetensors").stat().st_size
    assert run_bytes(run) == (pytest.approx(size, rel=0.2), 0)  # each tensor has a name there
    files = crops_folder(run.data, data_root).rglob("*.png")
    assert 0 < sum(path.stat().st_size for path in files) < crops.size
    for need in dataset_needs(run.data, data_root):
        assert (need.size, "present" in need.what) == (0, True)


def test_weights(tmp_path):
    file, student = tmp_path / "backbone.pth", SEGMENTS.baseline()
    networks = [("Deeplab-MBV2", "imagenet"), ("PSPNet-MBV2", "imagenet")]
    runs = [replace(student, network=network, init=init) for network, init in networks]
    missing, public = weight_needs([replace(student, init=str(file)), *runs, student])
    assert "missing" in missing.what
    assert "(imagenet) as of Deeplab-MBV2, unless cached" in public.what
    backbone = build_network("PSPNet-MBV2", 19).backbone
    assert public.download == sum(
        t.numel() * t.element_size() for t in backbone.state_dict().values()
    )
    file.write_bytes(b"")
    assert "present" in weight_needs([replace(student, init=str(file))])[0].what
    whole = replace(CLASSIFIER, network="Classifier-R50", init="timm:resnet50.a1_in1k")
    # 25,557,032 weights, and the mean, variance and count of 53 norms: ImageNet's classifier too
    assert weight_needs([whole])[0].download == 4 * (25_557_032 + 2 * 26_560) + 8 * 53


def test_too_little_room(tmp_path, monkeypatch):
    free = SimpleNamespace(free=3 * 2**30)
    monkeypatch.setattr(needs.shutil, "disk_usage", lambda place: free)
    wanted = [needs.Need("a", 2**31, tmp_path), needs.Need("b", 2**31, tmp_path / "c")]
    (sentence,) = shortages(wanted)
    assert sentence.startswith("WARNING: 4.0 GiB are to be written")
    assert "has 3.0 GiB free" in sentence
    assert shortages(wanted[:1]) == []
    assert [in_words(n) for n in (0, 1536, 5 * 2**40)] == ["0 bytes", "1.5 KiB", "5120.0 GiB"]


def test_the_profiles_schedules_are_the_usual_ones():
    coco, steps = load_profile("coco"), 117_266 // 16 + 1  # of an epoch of all images with objects
    pairs, usual = coco.detection.pairs, DetectionSchedule(checkpoint_every=1000)
    assert usual.steps == 24 * steps
    shares = [usual.lr_factor(epoch * steps) for epoch in (15, 16, 21, 22)]
    assert shares == pytest.approx([1, 0.1, 0.1, 0.01])
    for pair, lr, epochs in zip(pairs, (0.02, 0.01, 0.01), (24, 12, 24), strict=True):
        assert pair.student.schedule == replace(usual, lr=lr)
        assert (pair.teacher.schedule.lr, pair.teacher.schedule.steps) == (lr, epochs * steps)
    assert coco.transformation.instance.student.schedule == pairs[0].student.schedule
    schedule = load_profile("imagenet").transformation.classification.student.schedule
    assert schedule == ClassificationSchedule(checkpoint_every=1000)
    steps = 1_281_167 // 256
    assert schedule.steps == 100 * steps
    shares = [schedule.lr_factor(epoch * steps) for epoch in (29, 30, 59, 60, 89, 90)]
    assert shares == pytest.approx([1, 0.1, 0.1, 0.01, 0.01, 0.001])
