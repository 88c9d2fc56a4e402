"""The second paper: four tasks, each alone and distilled, ours beside the abstract's gains."""

import pandas as pd

from cwd.config.pairs import Pair
from cwd.experiments.profile import Profile
from cwd.experiments.rows_losses import Row, distilled, paired_gain, paper, references
from cwd.training.tasks import task_of

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
    for task, line in paper("channel_transformation").iterrows():
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
    for task, line in paper("channel_transformation").iterrows():
        pair = pairs.get(task)
        rows.append(row_of(task, "teacher", (pair.teacher,) if pair else ()))
        for method, recipes in METHODS.items():
            recipe = recipes[task in PYRAMID_TASKS]
            seeds = profile.transformation.seeds if pair else ()
            runs = tuple(profile.run(recipe, seed, pair.student) for seed in seeds)
            rows.append(row_of(task, method, runs, line["gain"] if method == "CT" else None))
    return tuple(rows)


def row_of(task: str, method: str, runs: tuple, gain: float | None = None) -> Row:
    """A row of a task; `printed` has the paper's gain."""
    network = runs[0].network if runs else ""
    over = None if method in ("teacher", "student") else label_of(task, "student")
    printed = {"task": task, "method": method, "network": network, "gain": gain}
    return Row(label_of(task, method), None, runs, student=over, printed=printed)


def transformation_table(rows: tuple[Row, ...], results: pd.DataFrame) -> pd.DataFrame:
    """The four tasks, the abstract's gains beside ours, in percent.

    Args:
        rows: see `transformation`.
        results: one line a run, see `cwd.experiments.study.Study.results`.

    Returns:
        One line a row. `ours` is the mean over seeds of the task's measure, `sd` its sample
        standard deviation; gains are over the same student alone, seed by seed, and `gain sd` is
        theirs. `status` is "measured", "not run", or "no such network" in this profile.
    """
    by_row = results.groupby("row", sort=False)["score"]
    by_seed = results.pivot(index="seed", columns="row", values="score")
    means, sds, counts = by_row.mean(), by_row.std(), by_row.count()
    lines = []
    for row in rows:
        known = row.label in means
        run = row.runs[0] if row.runs else None
        line = {
            "task": row.printed["task"],
            "method": row.printed["method"],
            "our network": row.printed["network"],
            "our images": run.data.name if run else "",
            "measure": task_of(run.network).unit if run else "",
            "paper gain": row.printed["gain"],
            "ours": means.get(row.label),
            "sd": sds.get(row.label),
            "seeds": int(counts.get(row.label, 0)),
            **paired_gain(by_seed, row),
            "status": "measured" if known else "not run" if run else "no such network",
        }
        lines.append(line)
    table = pd.DataFrame(lines).set_index(["task", "method"])
    numbers = ["paper gain", "ours", "sd", "our gain", "gain sd"]
    return table.astype(dict.fromkeys(numbers, float)).round(2)


def transformations(profile: Profile) -> tuple[Row, ...]:
    """Controls, in no paper: what else may lie between the two maps, and the one weight."""
    weighted = [f"{name}(weight={w})" for name in ("MIMIC_f", "CT_f") for w in WEIGHTS]
    recipes = (*VARIANTS, *weighted, f"CT_f(activation=none, weight={WEIGHTS[-1]})")
    first = references(profile, pd.Series(dtype=float))
    return *first, *(distilled(profile, recipe) for recipe in recipes)
