"""The committed notebooks: papermill can start them, nbval guards them, people can read them."""

import ast
from pathlib import Path

import nbformat
import pytest

from cwd.system import paths
from cwd.tools.reproduce import find_notebooks

NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
GUARD = "NBVAL_CHECK_OUTPUT"


def test_the_notebooks_are_there():
    expected = ["start", "00", "01", "02", "03", "04", "05", "06", "07", "08", "A1", "A2"]
    expected += ["B1", "laboratory", "rivals", "99"]
    assert [path.stem.partition("_")[0] for path in find_notebooks(paths.NOTEBOOKS)] == expected
    assert sorted(find_notebooks(paths.NOTEBOOKS)) == NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_form(path):
    assert path.stat().st_size < 600 * 1024
    book = nbformat.read(path, as_version=4)
    # papermill can't start a notebook without them, even when told the kernel
    kernel = book.metadata.kernelspec
    assert (kernel.name, kernel.language) == ("python3", "python")
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [c.source for c in code if len(c.source.splitlines()) > 30] == []
    guarded = [cell for cell in code if GUARD in cell.source]
    assert guarded
    assert all(cell.outputs for cell in guarded)  # nbval would compare nothing there, and pass

    (cell,) = [c for c in book.cells if "parameters" in c.metadata.get("tags", [])]
    statements = ast.parse(cell.source).body
    assert all(isinstance(s, ast.AnnAssign) for s in statements)
    names = [s.target.id for s in statements]
    assert names[:5] == ["profile", "data_root", "seeds", "device", "mode"]  # more are its own
    assert all(isinstance(ast.literal_eval(s.value), str) for s in statements)

    # nothing of one machine or run
    assert not any(o.output_type == "error" for c in code for o in c.outputs)
    assert not any("papermill" in cell.metadata for cell in book.cells)
    assert not {"widgets", "papermill"} & book.metadata.keys()
    for output in [output for cell in code for output in cell.outputs]:
        output.get("data", {}).pop("image/png", None)  # base64 may spell anything
    text = nbformat.writes(book)
    for odd in (paths.ROOT, Path.home(), "/home/", "/Users/", "injected-parameters"):
        assert str(odd) not in text
