"""Investigations beyond the paper's tables: the student's and the teacher's schedules varied."""

from dataclasses import replace

from cwd.experiments.profile import Profile
from cwd.experiments.rows_losses import compared
from cwd.experiments.table import Row

MAIN = ("PI", "CW_f", "CW_s")  # what schedules and teachers are compared by
LONGER = (2, 4)  # times the steps, for the student alone
EARLY = (0.3,)  # of the teacher's steps, after which it is stopped; at 0.1 the student is better


def longer(profile: Profile) -> tuple[Row, ...]:
    """The student alone for more steps, beside distilled ones: does a teacher only save time?"""
    rows = list(compared(profile, dict.fromkeys(MAIN)))
    alone = rows[1].label
    for times in LONGER:
        steps = times * profile.student.schedule.steps
        schedule = replace(profile.student.schedule, steps=steps)
        runs = (replace(run, schedule=schedule) for run in rows[1].runs)
        rows.append(Row(f"alone, {times} times the steps", None, tuple(runs), student=alone))
    return tuple(rows)


def schools(profile: Profile) -> tuple[Row, ...]:
    """The same recipes with teachers that were stopped early: does a better one teach more?"""
    rows = list(compared(profile, dict.fromkeys(MAIN)))
    distilled, alone = rows[2:], rows[1].label
    for share in EARLY:
        steps = max(1, round(share * profile.teacher.schedule.steps))
        early = replace(profile.teacher, schedule=replace(profile.teacher.schedule, steps=steps))
        rows.append(Row(f"teacher of {steps} steps", None, (early,)))
        for row in distilled:
            runs = tuple(replace(run, teacher=early) for run in row.runs)
            rows.append(Row(f"{row.label}, teacher of {steps} steps", None, runs, student=alone))
    return tuple(rows)


def unaugmented(profile: Profile) -> tuple[Row, ...]:
    """The released script's augmentation, which is none: neither scale nor mirror image."""
    schedule = replace(profile.student.schedule, scale=(1.0, 1.0), flip=False)
    rows = compared(profile, dict.fromkeys(MAIN))
    label, plain = "student, neither scale nor mirror", []
    for row in rows[1:]:
        runs = tuple(replace(run, schedule=schedule) for run in row.runs)
        title = f"{row.label}, neither" if row.student else label
        plain.append(Row(title, None, runs, student=row.student and label))
    return (*rows, *plain)
