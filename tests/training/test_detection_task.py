"""Detectors in the one loop: what is trained, and what is refused."""

import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from cwd.config.run import Data, Run
from cwd.config.schedule import ClassificationSchedule, DetectionSchedule, Schedule
from cwd.experiments.rows_pairs import MEASURES
from cwd.losses import ChannelWise
from cwd.models.build import build_network
from cwd.recipes.detection.distil import DetectionDistiller
from cwd.recipes.parse import parse_recipe
from cwd.system.errors import CwdError
from cwd.training.loop import train_together
from cwd.training.run_folder import RunFolder
from cwd.training.tasks.detection import DETECTION

DATA = Data("scenes", size=(64, 96), train=8, val=3)
SCHEDULE = DetectionSchedule(steps=2, batch=2, short=64, long=96, warmup=1, clip=10.0)
OPTIONS = {
    "FasterRCNN": "fpn=16, anchor=16, regions=16",
    "RetinaNet": "fpn=16, anchor=16",
    "RepPoints": "fpn=16",
}
RECIPES = {
    "FasterRCNN": ("Chen", "Wang", "Heo", "Zhang", "CW_fpn"),
    "RetinaNet": ("Wang", "Heo", "Zhang", "CW_fpn + Zhang"),
    "RepPoints": ("Heo", "Zhang", "CW_fpn", "CW_neck(T=2, levels=4)"),
}


def student_of(kind, width=0.125):
    return Run(DATA, f"{kind}-R18({width}, {OPTIONS[kind]})", SCHEDULE)


def taught(kind, recipe, **changes):
    return replace(student_of(kind), recipe=recipe, teacher=student_of(kind, 0.25), **changes)


@pytest.mark.parametrize("kind", OPTIONS)
def test_every_method_trains(trained, tmp_path, data_root, kind):
    teacher, own = trained(student_of(kind, 0.25)), list(trained(student_of(kind)).history())
    shutil.copytree(teacher.done, tmp_path / teacher.run.name)
    runs = [taught(kind, recipe) for recipe in RECIPES[kind]]
    place = {"runs": tmp_path, "data_root": data_root, "device": "cpu"}
    assert train_together(runs, **place, allow_weak_teacher=True) == {}
    for run in runs:
        folder = RunFolder(tmp_path, run)
        history = folder.history()
        added = [term.name for term in parse_recipe(run.recipe)]
        assert list(history) == [*own, *added]
        assert (history[added] != 0).all(axis=None)
        assert set(MEASURES) <= set(folder.metrics)
        assert folder.provenance["teacher"]["ap"] == teacher.metrics["ap"]


def test_reppoints_learns_a_few_images_by_heart(go, data_root):
    data = Data("scenes", size=(128, 160), train=4, val=1)
    schedule = DetectionSchedule(
        steps=250, batch=4, short=128, long=160, lr=0.1, warmup=20, drops=(0.8, 0.95), clip=10.0,
        flip=False, precision="fp32",
    )  # fmt: skip
    run = Run(data, "RepPoints-R18(0.25, fpn=32)", schedule)
    folder, (learnt, _) = go(run), DETECTION.open_data(run.data, data_root)
    network = build_network(run.network, learnt.num_classes)
    folder.load_into(network)
    metrics = DETECTION.evaluate(network.eval(), learnt, schedule)
    assert metrics["ap50"] > 80  # measured: 96
    assert metrics["ap"] > 50  # 74


def test_the_pyramids_term_is_the_sum_over_levels():
    torch.manual_seed(0)
    networks = [build_network(f"RepPoints-R18({w}, fpn=16)", 3).eval() for w in (0.125, 0.25)]
    with torch.no_grad():
        student, teacher = (network(torch.randn(2, 3, 64, 64)) for network in networks)
    assert student.convs[0].shape == student.levels[0].shape
    assert not torch.equal(student.convs[0], student.levels[0])  # a norm lies between
    for recipe, maps, weight, count in (
        ("CW_fpn", "convs", 5, 5),
        ("CW_fpn(levels=4, weight=2, T=3)", "convs", 2, 4),
        ("CW_neck", "levels", 5, 5),
    ):
        (term,) = parse_recipe(recipe)
        (value,) = DetectionDistiller((term,), *networks)(student, teacher, []).values()
        temperature = dict(term.options)["temperature"]
        total = 0.0
        for own, goal in zip(getattr(student, maps)[:count], getattr(teacher, maps), strict=False):
            p, q = (x.double().flatten(2).div(temperature).softmax(2) for x in (goal, own))
            total += temperature**2 * (p * (p / q).log()).sum(2).mean().item()
        assert value.item() == pytest.approx(weight * total, rel=1e-4)


def test_pyramids_of_other_widths_are_aligned():
    networks = [build_network(f"RetinaNet-R18({w})", 3) for w in ("fpn=16", "fpn=24")]
    distiller = DetectionDistiller(parse_recipe("CW_fpn(levels=2)"), *networks)
    (loss,) = distiller.losses.values()
    assert all(isinstance(level, ChannelWise) for level in loss.losses)
    assert [tuple(conv[0].weight.shape) for conv in loss.alignments] == [(24, 16, 1, 1)] * 2
    student, teacher = (network(torch.randn(2, 3, 64, 64)) for network in networks)
    (value,) = distiller(student, teacher, []).values()
    value.backward()
    assert all(p.grad is not None for p in distiller.trained.parameters())
    assert all(p.grad is None for p in networks[1].parameters())


def test_unequal_detectors():
    student = build_network("RetinaNet-R18(fpn=16)", 3, device="meta")
    for other in (("RepPoints-R18(fpn=16)", 3), ("RetinaNet-R18(fpn=16)", 4)):
        teacher = build_network(*other, device="meta")
        with pytest.raises(CwdError, match="can't learn from"):
            DetectionDistiller(parse_recipe("CW_fpn"), student, teacher)


CLASSIFIER = Run(Data("crops"), "Classifier-MBV1", ClassificationSchedule())


@pytest.mark.parametrize(
    ("run", "recipe", "word"),
    [
        (student_of("RetinaNet"), "CW_f", "is for a segmentation network"),
        (student_of("RetinaNet"), "PI", "is for a segmentation network"),
        (student_of("RetinaNet"), "CW_fpn(levels=6)", "levels=6"),
        (student_of("RetinaNet"), "CW_fpn(level=4)", "level=4"),
        (student_of("RetinaNet"), "Wang_fpn", "Wang"),
        (student_of("RetinaNet"), "Chen(mu=0.5)", "Chen is for FasterRCNN"),
        (student_of("RepPoints"), "Wang", "Wang is for FasterRCNN and RetinaNet"),
        (Run(DATA, "PSPNet-R18", Schedule()), "CW_fpn", r"CW_fpn is for a detector.*CW_f"),
        *((CLASSIFIER, recipe, r"Classifier-MBV1.* is a classifier: .*CT_f")
          for recipe in ("CW_s", "IFV_f", "PI", "CW_fpn")),
    ],
)  # fmt: skip
def test_recipes_that_are_refused(run, recipe, word):
    with pytest.raises(CwdError, match=word):
        replace(run, recipe=recipe, teacher=run)


def test_schedule():
    shares = {0: 0.001, 250: 0.5005, 500: 1, 665: 1, 667: 0.1, 917: 0.01}
    assert {n: DetectionSchedule(steps=1000).lr_factor(n) for n in shares} == pytest.approx(shares)


def test_gradients_are_clipped_and_old_keys_stay(go):
    plain = Run(DATA, "PSPNet-R18", Schedule())
    assert replace(plain, schedule=Schedule(clip=1.0)).key != plain.key
    run = replace(student_of("RetinaNet"), schedule=replace(SCHEDULE, clip=1e-3, warmup=0, steps=1))
    torch.manual_seed(run.seed)
    before = dict(build_network(run.network, 8).named_parameters())
    after = load_file(go(run).done / "student.safetensors")
    moved = torch.cat([(after[n] - p).flatten() for n, p in before.items()]).norm()
    assert 0 < moved <= 1.05 * run.schedule.lr * (1e-3 + 1e-4 * 200)  # and weight decay's share
