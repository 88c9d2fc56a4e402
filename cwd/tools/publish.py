"""Putting the outputs of an executed profile into the committed notebooks: `make publish`."""

from pathlib import Path

import nbformat

from cwd.experiments.profile import load_profile
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.system.files import write_text
from cwd.tools.reproduce import find_notebooks, fitting


def publish(profile: str) -> list[Path]:
    """Copy outputs from `build/PROFILE/notebooks` into the notebooks they were executed from.

    Sources stay; papermill's parameters and metadata, and what was written to standard error, don't
    come along. A guarded cell has to carry its output, or nbval guards nothing. Returns the
    notebooks written; one that wasn't executed, or was changed since, is a `CwdError`.
    """
    pairs = [
        (path, paths.BUILD / profile / "notebooks" / path.name)
        for path in fitting(find_notebooks(paths.NOTEBOOKS), load_profile(profile))
    ]
    for _, executed in pairs:  # all of them or none is written
        if not executed.is_file():
            raise CwdError(f"{executed} does not exist: run `make reproduce PROFILE={profile}`.")
    for path, executed in pairs:
        book, done = (nbformat.read(p, as_version=4) for p in (path, executed))
        cells = [c for c in done.cells if "injected-parameters" not in c.metadata.get("tags", [])]
        if [c.source for c in cells] != [c.source for c in book.cells]:
            raise CwdError(f"{path.name} was changed since it was executed: execute it again.")
        for cell, source in zip(book.cells, cells, strict=True):
            if cell.cell_type == "code":
                cell.execution_count = source.execution_count
                cell.outputs = [o for o in source.outputs if o.get("name") != "stderr"]
        write_text(path, nbformat.writes(book) + "\n")
    return [path for path, _ in pairs]
