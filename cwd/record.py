"""Keeping results that were measured: small JSON files, one a run, that git tracks."""

from dataclasses import asdict
from pathlib import Path

from cwd import paths
from cwd.experiments import STUDIES, study
from cwd.files import write_json
from cwd.runs import RunFolder


def record(profile: str, *, results: Path = paths.RESULTS) -> list[Path]:
    """Copy configuration, metrics and provenance of a profile's finished runs to `results`.

    Args:
        profile: name of a profile.
        results: where to; a folder for the profile is made in it.

    Returns:
        The files written, one for each finished run; unfinished runs are left out.
    """
    written = {}
    for name in STUDIES:
        table = study(name, profile)
        for run in (run for row in table.rows for run in row.runs):
            folder = RunFolder(paths.RUNS, run)
            if folder.finished:
                path = results / table.source.profile.name / f"{run.name}.json"
                kept = {
                    "run": asdict(run),
                    "metrics": folder.metrics,
                    "provenance": folder.read_json("provenance.json"),
                }
                write_json(path, kept)
                written[path] = None
    return list(written)
