"""Tables 6, 7 and 8: every network of the paper, alone and distilled, on three datasets."""

import functools
from collections.abc import Mapping
from typing import Any

import pandas as pd

from cwd.data.datasets import LAYOUTS
from cwd.data.detection.coco import COCO_LAYOUTS
from cwd.experiments.profile import Profile
from cwd.experiments.sections import PAPER_DETECTORS, Student
from cwd.experiments.table import Row, method_row, paper
from cwd.models.build import build_network, count_multiply_adds, count_parameters

# Methods as recipes. On VOC and ADE20K the paper leaves PI and HO out of all of them (supplement
# S2). SKDD has the terms of SKDS in another setting, of which no code was published: it is cited.
REFERENCE = "reference"
ALONE = {"student": "", "SKDS": "PA_f", "IFVD": "IFV_f", "CWD": "CW_f"}
WITH_PI_HO = {method: recipe and f"PI + HO + {recipe}" for method, recipe in ALONE.items()}
# the paper's table, its dataset, its recipes
SOURCES = {
    "table6": ("table6_cityscapes", "cityscapes", WITH_PI_HO),
    "table7": ("table7_voc", "voc", ALONE),
    "table8": ("table8_ade20k", "ade20k", ALONE),
}
MAIN = ("PSPNet-R101", "PSPNet-R18", "PSPNet-R18(0.5)")
TABLE_6 = (*MAIN, "PSPNet-MBV2", "Deeplab-R18", "Deeplab-R18(0.5)", "Deeplab-MBV2")
INIT = {"yes": "ImageNet", "no": "scratch"}  # a column of Table 6, see `Run.start`


def _group_of(network: str, init: str) -> str:
    # Tables 7 and 8 don't say how theirs started
    return ", ".join(filter(None, (network, init)))


def label_of(network: str, init: str, method: str) -> str:
    """A row's label, "PSPNet-R18, scratch: CWD"."""
    return f"{_group_of(network, init)}: {method}"


def networks(name: str, profile: Profile) -> tuple[Row, ...]:
    """The rows of Table 6, 7 or 8: teacher, students, then the paper's reference networks.

    Students that the profile has with another start than the paper are rows of their own, without
    printed numbers. On another dataset than the table's, Tables 7 and 8 have only Table 2's runs.
    """
    table, rows, used = paper(SOURCES[name][0]), [], []
    started = table.get("imagenet_init", pd.Series("", index=table.index)).map(INIT).fillna("")
    for line in table.assign(init=started).to_dict("records"):
        if line["method"] == "teacher":
            rows.insert(0, _row(line, (profile.teacher,)))
        else:
            student = _find(profile, line["network"], line["init"])
            used.append(student)
            rows.append(_row(line, _runs(name, profile, student, line["method"])))
    for student in profile.students:
        if student not in used and "-" in student.name:  # others stand for reference networks
            for method in SOURCES[name][2]:
                # two of one network differ in this, also where the paper doesn't say it
                line = {"network": student.name, "init": student.run.start, "method": method}
                if runs := _runs(name, profile, student, method):
                    rows.append(_row(line, runs))
    order = list(dict.fromkeys(row.printed["network"] for row in rows))
    rows.sort(key=lambda row: order.index(row.printed["network"]))
    return tuple(sorted(rows, key=lambda row: row.printed["method"] == REFERENCE))


def _find(profile: Profile, network: str, init: str) -> Student | None:
    # for a printed row: the same start where it says one
    fitting = [s for s in profile.students if s.name == network and init in ("", s.run.start)]
    pretrained = [student for student in fitting if student.run.init != "random"]
    return next(iter(pretrained or fitting), None)


def _runs(name: str, profile: Profile, student: Student | None, method: str) -> tuple:
    # one a seed; none where the profile can't or shan't measure it
    _, dataset, recipes = SOURCES[name]
    if student is None or method not in (REFERENCE, *recipes):
        return ()
    if name != "table6" and profile.data.name != dataset and student.run != profile.student:
        return ()
    seeds = profile.seeds_of(student.run)
    return tuple(profile.run(recipes.get(method, ""), seed, student.run) for seed in seeds)


def _row(line: Mapping[str, Any], runs: tuple) -> Row:
    # from a printed line, or one of our own in its form
    group = _group_of(line["network"], line["init"])
    ours = _group_of(runs[0].network, runs[0].start) if runs else ""
    return method_row(group, runs=runs, number=line.get("val_miou"), ours=ours, **line)


def costs(dataset: str, row: Row, measured: bool) -> dict[str, float]:
    """Parameters and multiply-adds (at 512x1024) as counted here.

    Of the paper's network, for the classes of the table's dataset, and of the one measured.
    """
    counted, network = {}, row.printed["network"]
    if "-" in network:  # reference networks are not built
        counted["counted"] = network, dataset
    if measured:
        counted["ours"] = row.runs[0].network, row.runs[0].data.name
    costs = {}
    for whose, (built, data) in counted.items():
        pair = costs_of(built, len(LAYOUTS[data].classes))
        costs[f"{whose} (M)"], costs[f"{whose} (G)"] = pair
    return costs


@functools.cache
def costs_of(network: str, num_classes: int = 19) -> tuple[float, float]:
    """Parameters in millions, and multiply-adds in units of 10^9 for an image of 512x1024."""
    built = build_network(network, num_classes, device="meta")
    return count_parameters(built) / 1e6, count_multiply_adds(built) / 1e9


def network_costs(names: tuple[str, ...] = MAIN) -> pd.DataFrame:
    """Costs of networks of Table 6, counted as in `costs_of` and printed."""
    printed, lines = paper("table6_cityscapes").groupby("network").first(), {}
    for name in names:
        parameters, multiply_adds = costs_of(name)
        lines[name] = {
            "parameters (M)": round(parameters, 4),
            "paper's (M)": printed.loc[name, "params_m"],
            "multiply-adds (G)": round(multiply_adds, 2),
            "paper's (G)": printed.loc[name, "flops_g"],
        }
    return pd.DataFrame(lines).T.rename_axis("network")


def agreement(costs: pd.DataFrame) -> str:
    """How many of `network_costs` are the paper's within half a percent, in a sentence."""
    pairs = costs.to_numpy().reshape(-1, 2)  # counted, printed
    near = (abs(pairs[:, 0] / pairs[:, 1] - 1) < 0.005).sum()
    return f"{near} of {len(pairs)} numbers are the paper's within half a percent."


def parameter_table() -> pd.DataFrame:
    """Parameters of Table 9's students in millions: counted here for 80 classes, and printed.

    "trainable" is without the stem and first stage, which stay as ImageNet left them. Only
    RepPoints then has the printed number; no public implementation has the other two.
    """
    printed, lines = paper("table9_detection").groupby("detector").first(), {}
    for name, kind in PAPER_DETECTORS.items():
        built = build_network(f"{kind}-R50", COCO_LAYOUTS["coco"].num_classes, device="meta")
        built.backbone.freeze()
        trainable = sum(p.numel() for p in built.parameters() if p.requires_grad)
        lines[name] = {
            "counted (M)": round(count_parameters(built) / 1e6, 2),
            "trainable (M)": round(trainable / 1e6, 2),
            "paper's (M)": printed.loc[name, "params_m"],
        }
    return pd.DataFrame(lines).T.rename_axis("detector")
