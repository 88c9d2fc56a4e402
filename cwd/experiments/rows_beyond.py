"""What came after the paper: rows at equal steps, and at equal time once a step was timed."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cwd.experiments.beside import CWD
from cwd.experiments.profile import Profile
from cwd.experiments.records import Records
from cwd.experiments.rows_losses import compared
from cwd.experiments.table import Row
from cwd.recipes.parse import parse_recipe
from cwd.system import paths

FACTORS = {"published": 1.0, "a tenth": 0.1, "ten times": 10.0}  # of all weights of a recipe


def scaled(recipe: str, factor: float) -> str:
    """A recipe with the weight of each term multiplied."""
    weights = {term: float(f"{factor * term.weight:.6g}") for term in parse_recipe(recipe)}
    return " + ".join(replace(term, weight=weight).spelled for term, weight in weights.items())


def beyond(profile: Profile, rows: Mapping[str, str]) -> tuple[Row, ...]:
    """The methods of `tables.yaml`, recipes by name, at each of `FACTORS`."""
    profile = replace(profile, seeds=profile.beyond)
    made = [replace(row, printed={"weights": "", "recipe": ""}) for row in compared(profile, {})]
    for name, recipe in rows.items():
        for words, factor in FACTORS.items():
            spelled, label = scaled(recipe, factor), f"{name}, {words}"
            (row,) = compared(profile, {label: {"recipe": spelled}})[2:]
            printed = {"method": name, "weights": words, "recipe": spelled}
            made.append(replace(row, printed=printed))
    return tuple(made)


def step_times(profile: Profile) -> dict[str, Any] | None:
    """What `cwd.experiments.beyond.timed` measured: the recorded file, or else the one built."""
    found = Records(profile).beside(paths.STEP_TIMES)
    return found or Records(profile, paths.RUNS).beside(paths.STEP_TIMES)


def equal_time(profile: Profile) -> tuple[Row, ...]:
    """Each recipe, and the student alone, for as many steps as fit into two budgets of time.

    The budgets are the student's steps at CWD's pace, and at that of the slowest recipe. Before
    steps are timed there are no rows but the teacher and the student.
    """
    profile, times = replace(profile, seeds=profile.beyond), step_times(profile)
    made = [replace(row, printed={"budget": ""}) for row in compared(profile, {})]
    seconds, steps = times["seconds"] if times else {}, profile.student.schedule.steps
    budgets = {"CWD's time": seconds.get(CWD), "the slowest's": max(seconds.values(), default=0)}
    for (budget, most), (recipe, taken) in itertools.product(budgets.items(), seconds.items()):
        name, fitting = recipe or "student", max(1, round(steps * most / taken))
        runs = [profile.run(recipe, seed) for seed in profile.seeds]
        runs = [replace(run, schedule=replace(run.schedule, steps=fitting)) for run in runs]
        printed = {"budget": budget, "method": name, "steps": fitting}
        alone = f"student, {budget}" if recipe else None
        made.append(Row(f"{name}, {budget}", None, tuple(runs), student=alone, printed=printed))
    return tuple(made)
