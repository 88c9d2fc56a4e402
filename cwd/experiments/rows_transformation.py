"""The second paper: four tasks, each alone and distilled, ours beside the abstract's gains."""

from functools import partial

import pandas as pd

from cwd.experiments.profile import Profile
from cwd.experiments.rows_losses import COLUMNS, compared, segments
from cwd.experiments.sections import Pair
from cwd.experiments.table import SCORE, Row, Table, paper
from cwd.training.tasks.choice import task_of

# methods as recipes: on maps of one size, and on a pyramid
METHODS = {
    "student": ("", ""),
    "MIMIC": ("MIMIC_f", "MIMIC_fpn"),
    "CWD": ("CW_f", "CW_fpn"),
    "CT": ("CT_f", "CT_fpn"),
}
TASKS = (
    "image classification",
    "object detection",
    "instance segmentation",
    "semantic segmentation",
)
PYRAMID_TASKS = TASKS[1:3]
# What lies between student and teacher, on the feature map of the segmentation student; all are
# matched by L2. MIMIC_f has one 1x1 convolution where the two maps differ in channels.
VARIANTS = (
    "MIMIC_f",
    "CT_f(activation=none)",
    "CT_f",
    "CT_f(kernel=3)",
    "CT_f(hidden=0.25)",
    "CT_f(hidden=4)",
)
WEIGHTS = (10, 100)  # of MIMIC_f and CT_f, beside their own


def pairs_of(profile: Profile) -> dict[str, Pair]:
    """Teacher and student of each task that a profile has."""
    second = profile.transformation
    detectors = {pair.name: pair for pair in profile.detection.pairs} if profile.detection else {}
    found = {
        TASKS[0]: second and second.classification,
        TASKS[1]: detectors.get("Faster R-CNN"),
        TASKS[2]: second and second.instance,
        TASKS[3]: profile.student and Pair("PSPNet", profile.teacher, profile.student),
    }
    return {task: pair for task, pair in found.items() if pair}


def overview(profile: Profile) -> pd.DataFrame:
    """What a profile compares in each task, beside the abstract's student and dataset."""
    lines, pairs = {}, pairs_of(profile)
    for task, line in paper("channel_transformation", 0).iterrows():
        pair = pairs.get(task)
        lines[task] = {"the abstract's student": line["student"], "its dataset": line["dataset"]}
        lines[task] |= {"measure": line["measure"]}
        if pair:
            lines[task] |= {
                "our student": pair.student.network,
                "our teacher": pair.teacher.network,
                "our images": pair.student.data.name,
                "steps": pair.student.schedule.steps,
                "recipe of CT": METHODS["CT"][task in PYRAMID_TASKS],
            }
    return pd.DataFrame.from_dict(lines, orient="index").fillna("").rename_axis("task")


def label_of(task: str, method: str) -> str:
    """A row's label, "object detection: CT"."""
    return f"{task}: {method}"


def transformation(profile: Profile) -> tuple[Row, ...]:
    """The abstract's four results: in each task teacher, student alone, MIMIC, CWD and CT.

    Where the profile lacks a task, its rows have no runs. The abstract prints gains only, of CT.
    """
    pairs, rows = pairs_of(profile), []
    for task, line in paper("channel_transformation", 0).iterrows():
        pair = pairs.get(task)
        rows.append(_row(task, "teacher", (pair.teacher,) if pair else ()))
        for method, recipes in METHODS.items():
            recipe = recipes[task in PYRAMID_TASKS]
            seeds = profile.transformation.seeds if pair else ()
            runs = tuple(profile.run(recipe, seed, pair.student) for seed in seeds)
            rows.append(_row(task, method, runs, line["gain"] if method == "CT" else None))
    return tuple(rows)


def _row(task: str, method: str, runs: tuple, gain: float | None = None) -> Row:
    alone = method in ("teacher", "student")
    printed = {"task": task, "method": method, "network": "", "images": "", "measure": ""}
    if runs:
        run = runs[0]
        printed |= {"network": run.network, "images": run.data.name}
        printed |= {"measure": task_of(run.network).unit}
    return Row(
        label_of(task, method),
        None,
        runs,
        student=None if alone else label_of(task, "student"),
        printed=printed | {"gain": gain},
    )


def _compares(profile: Profile) -> bool:
    return profile.transformation is not None


# Controls, in no paper: what else may lie between the two maps, and the one weight.
CONTROLS = (
    *VARIANTS,
    *(f"{name}(weight={w})" for name in ("MIMIC_f", "CT_f") for w in WEIGHTS),
    f"CT_f(activation=none, weight={WEIGHTS[-1]})",
)
TRANSFORMATION_TABLES = {
    "transformation": Table(
        transformation,
        _compares,
        {
            "our network": "network",
            "our images": "images",
            "measure": "measure",
            "paper gain": "gain",
            "ours": f"our {SCORE}",
            "sd": "sd",
            "seeds": "seeds",
            "our gain": "paired gain",
            "gain sd": "gain sd",
            "status": "status",
        },
        index=("task", "method"),
        measures=(SCORE,),
        absent="no such network",
    ),
    "transformations": Table(
        partial(compared, recipes=CONTROLS),
        lambda profile: segments(profile) and _compares(profile),
        COLUMNS,
    ),
}
