"""Keeping results that were measured: small JSON files, one a run, that git tracks."""

import functools
import shutil
from dataclasses import asdict
from pathlib import Path

from cwd.experiments.profile import load_profile
from cwd.experiments.records import BESIDE, Records, every_seed
from cwd.experiments.study import every_run
from cwd.system import paths
from cwd.system.files import write_atomic, write_json
from cwd.training.run_folder import RunFolder


def record(profile: str, *, results: Path = paths.RESULTS) -> list[Path]:
    """Copy what was measured under a profile to `results`.

    Args:
        profile: name of a profile.
        results: where to; a folder for the profile is made in it.

    Returns:
        The files written: configuration, metrics and provenance of each finished run, and what
        notebooks 04, 05 and A1 measured beside the runs; unfinished runs are left out.
    """
    source = Records(every_seed(load_profile(profile)))
    target = results / source.profile.name
    written = []
    for run in every_run(source):
        folder = RunFolder(paths.RUNS, run)
        if folder.finished:
            path = target / f"{run.name}.json"
            kept = {
                "run": asdict(run),
                "metrics": folder.metrics,
                "provenance": folder.read_json("provenance.json"),
            }
            write_json(path, kept)
            written.append(path)
    for name in BESIDE:
        built = paths.BUILD / source.profile.name / name
        if built.is_file():
            write_atomic(target / name, functools.partial(shutil.copyfile, built))
            written.append(target / name)
    return written
