"""Detectors in the one loop: what is trained, what is refused, and Table 9's rows."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from invented import InventedTasks
from safetensors.torch import load_file

from cwd.config.run import Data, Run
from cwd.config.schedule import DetectionSchedule, Schedule
from cwd.experiments.profile import load_profile
from cwd.experiments.records import Records
from cwd.experiments.rows_pairs import MEASURES
from cwd.experiments.study import every_run, studies_of, study
from cwd.experiments.table import paper as printed
from cwd.losses import ChannelWise
from cwd.models.build import build_network
from cwd.recipes.detection.distil import DetectionDistiller
from cwd.recipes.parse import parse_recipe
from cwd.system.errors import CwdError
from cwd.tools.reproduce import choose, find_notebooks, fitting
from cwd.training.loop import train
from cwd.training.tasks.detection import DETECTION

DATA = Data("scenes", size=(64, 96), train=8, val=3)
SCHEDULE = DetectionSchedule(
    steps=4, batch=2, short=64, long=96, warmup=2, checkpoint_every=2, clip=10.0
)
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


@pytest.fixture(scope="module")
def go(tmp_path_factory, data_root):
    runs = tmp_path_factory.mktemp("runs")

    def call(run, folder=runs):
        return train(run, runs=folder, data_root=data_root, device="cpu", allow_weak_teacher=True)

    return call


@pytest.mark.parametrize("kind", OPTIONS)
def test_every_method_trains(go, kind):
    go(student_of(kind, 0.25))
    own = list(go(student_of(kind)).history())
    for recipe in RECIPES[kind]:
        folder = go(taught(kind, recipe))
        history = folder.history()
        added = [term.name for term in parse_recipe(recipe)]
        assert list(history) == [*own, *added]
        assert (history[added] != 0).all(axis=None)
        assert set(MEASURES) <= set(folder.metrics)
    source = folder.read_json("provenance.json")
    assert source["teacher"]["ap"] == go(student_of(kind, 0.25)).metrics["ap"]


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


@pytest.mark.parametrize(
    ("kind", "recipe", "word"),
    [
        ("RetinaNet", "CW_f", "is for a segmentation network"),
        ("RetinaNet", "PI", "is for a segmentation network"),
        ("RetinaNet", "CW_fpn(levels=6)", "levels=6"),
        ("RetinaNet", "CW_fpn(level=4)", "level=4"),
        ("RetinaNet", "Wang_fpn", "Wang"),
        ("RetinaNet", "Chen(mu=0.5)", "Chen is for FasterRCNN"),
        ("RepPoints", "Wang", "Wang is for FasterRCNN and RetinaNet"),
    ],
)
def test_recipes_that_are_refused(kind, recipe, word):
    with pytest.raises(CwdError, match=word):
        taught(kind, recipe)


def test_detectors_terms_are_not_for_segmentation():
    run = Run(DATA, "PSPNet-R18", Schedule())
    with pytest.raises(CwdError, match=r"CW_fpn is for a detector.*CW_f"):
        replace(run, recipe="CW_fpn", teacher=run)


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


def test_every_row_of_table_9():
    table = study("table9", Records(load_profile("quick"))).table()
    paper = printed("table9_detection").set_index(["detector", "method"])
    assert set(paper.index) < set(table.index)
    students = [key for key in table.index if key[1] != "teacher"]
    assert len(students) == 13
    assert table.loc[students, "paper AP"].tolist() == paper.loc[students, "ap"].tolist()
    assert table.loc[("RetinaNet", "CWD"), "paper gain"] == 3.4
    assert set(table["status"]) <= {"measured", "not run"}


def test_a_profile_without_detectors_only_cites():
    table = study("table9", Records(load_profile("camvid"))).table()
    assert set(table["status"]) == {"cited"}
    assert len(table) == 16


class Invented(InventedTasks):
    """All of AP's measures are the same, but for large objects, of which there are none."""

    def metrics(self, run):
        found = super().metrics(run)
        return found and dict.fromkeys(MEASURES, *found.values()) | {"ap_l": None}


def test_gains_over_the_same_detectors_student():
    known = {
        ("RetinaNet", ""): (10.0, 12.0),
        ("RetinaNet", "CW_fpn"): (15.0, 15.0),
        ("FasterRCNN", "CW_fpn"): (50.0,),
    }
    source = Invented(known)
    source.profile = source.profile.seeded((0, 1))
    table = study("table9", source).table()
    row = table.loc[("RetinaNet", "CWD")]
    assert (row["our AP (scenes)"], row["our gain"], row["seeds"], row["sd"]) == (15, 4, 2, 0)
    assert pd.isna(row["our AP_L"])
    assert table.loc[("RetinaNet", "student"), "sd"] == 1.41  # sqrt(2)
    row = table.loc[("Faster R-CNN", "CWD")]
    assert row["seeds"] == 1
    assert pd.isna(row["our gain"])  # its student wasn't measured


def test_profiles_and_notebooks_fit():
    books = find_notebooks(Path(__file__).parents[2] / "notebooks")
    coco, camvid, quick = (load_profile(name) for name in ("coco", "camvid", "quick"))
    assert [book.stem[:2] for book in fitting(books, coco)] == ["A1", "A2", "99"]
    assert "A1_detection" not in [book.stem for book in fitting(books, camvid)]
    assert fitting(books, quick) == books
    assert books[-1].stem == "99_claims"  # it speaks of all
    with pytest.raises(CwdError, match="A1 for this profile"):
        choose(fitting(books, camvid), "A1")
    assert studies_of(coco) == ("table9", "transformation")
    # Table 9's, Faster R-CNN's MIMIC and CT, and Mask R-CNN's five
    assert len(every_run(Records(coco))) == 16 + 2 + 5
    with pytest.raises(CwdError, match="no networks for"):
        study("table2", Records(coco))
    with pytest.raises(CwdError, match="RetinaNet-R50"):
        coco.find("PSPNet-R18")
    assert coco.find("RetinaNet-R50") == coco.detection.pairs[1].student


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        (("pairs", 0, "teacher", "network"), "RetinaNet-R18", "no pair"),
        (("pairs", 0, "teacher", "network"), "PSPNet-R18", "schedule|no pair"),
        (("pairs", 0, "student", "network"), "FasterRCNN-R99", "R99"),
        (("pairs", 0), {"student": {"network": "RetinaNet-R18"}}, "teacher is missing"),
        (("pairs",), [], "pairs"),
        (("schedule", "crop"), [64, 64], "crop"),
        (("schedule", "short"), "wide", "short"),
        (("seeds",), [0, 0], "seeds"),
        (("data", "size"), 64, "size"),
    ],
)
def test_mistakes_in_a_profile(tmp_path, path, value, word):
    text = yaml.safe_load(Path("cwd/profiles/smoke.yaml").read_text())
    place = text["detection"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    written = tmp_path / "mine.yaml"
    written.write_text(json.dumps(text))
    with pytest.raises(CwdError, match=word):
        load_profile(str(written))
