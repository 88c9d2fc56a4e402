"""Every recorded result is found again: its settings, read back, give its file's name."""

import json

from cwd.config.run import Data, Run
from cwd.experiments import every_run
from cwd.experiments.beside import FORMS
from cwd.experiments.records import Records, recorded_profiles
from cwd.system import paths
from cwd.training.tasks import task_of

FILES = sorted(p for p in paths.RESULTS.glob("*/*.json") if p.name not in FORMS)


def rebuilt(run: dict) -> Run:
    """A run from its recorded settings, those of today's that it doesn't name at their defaults."""
    schedule = task_of(run["network"]).schedule(**run["schedule"])
    teacher = run["teacher"] and rebuilt(run["teacher"])
    parts = {"data": Data(**run["data"]), "schedule": schedule, "teacher": teacher}
    return Run(**run | parts)


def test_a_recorded_result_has_its_runs_name():
    assert len(FILES) >= 375
    wrong = [p.stem for p in FILES if rebuilt(json.loads(p.read_text())["run"]).name != p.stem]
    assert wrong == []


def test_the_profiles_still_ask_for_the_recorded_runs():
    """A table finds a result by its profile's run, not by the file."""
    for profile in recorded_profiles():
        asked = {run.name for run in every_run(Records(profile))}
        recorded = {path.stem for path in FILES if path.parent.name == profile.name}
        assert recorded <= asked
