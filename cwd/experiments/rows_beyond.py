"""What came after the paper: rows at equal steps, and at equal time once a step was timed."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cwd.experiments.beside import CWD
from cwd.experiments.profile import Profile
from cwd.experiments.records import Records
from cwd.experiments.rows_losses import compared
from cwd.experiments.table import Row
from cwd.recipes.parse import known_terms
from cwd.system import paths

FACTORS = {"published": 1.0, "a tenth": 0.1, "ten times": 10.0}  # of all weights of a recipe


def scaled(recipe: str, factor: float) -> str:
    """A recipe with the weight of each term multiplied."""
    weights = {term: float(f"{factor * term.weight:.6g}") for term in known_terms(recipe)}
    return " + ".join(replace(term, weight=weight).spelled for term, weight in weights.items())


def beyond(profile: Profile, rows: Mapping[str, str]) -> tuple[Row, ...]:
    """The methods of `tables.yaml`, recipes by name, at each of `FACTORS`."""
    alone = compared(profile, {}, "beyond")
    made = [replace(row, printed={"weights": "", "recipe": ""}) for row in alone]
    for name, recipe in rows.items():
        for words, factor in FACTORS.items():
            spelled, label = scaled(recipe, factor), f"{name}, {words}"
            (row,) = compared(profile, {label: {"recipe": spelled}}, "beyond")[2:]
            printed = {"method": name, "weights": words, "recipe": spelled}
            made.append(replace(row, printed=printed))
    return tuple(made)


def step_times(profile: Profile) -> dict[str, Any] | None:
    """What `cwd.experiments.beyond.timed` measured: the recorded file, or else the one built."""
    found = Records(profile).beside(paths.STEP_TIMES)
    return found or Records(profile, paths.RUNS).beside(paths.STEP_TIMES)


def equal_time(profile: Profile) -> tuple[Row, ...]:
    """Each recipe, and the student alone, for as many steps as fit into the time of CWD's.

    Before steps are timed there are no rows but the teacher and the student.
    """
    times, steps = step_times(profile), profile.student.schedule.steps
    made = list(compared(profile, {}, "beyond"))
    for recipe, taken in (times["seconds"] if times else {}).items():
        fitting = max(1, round(steps * times["seconds"][CWD] / taken))
        runs = [profile.run(recipe, seed) for seed in profile.beyond]
        runs = [replace(run, schedule=replace(run.schedule, steps=fitting)) for run in runs]
        alone, printed = "student" if recipe else None, {"steps": fitting}
        made.append(Row(recipe or "student", None, tuple(runs), student=alone, printed=printed))
    return tuple(made)
