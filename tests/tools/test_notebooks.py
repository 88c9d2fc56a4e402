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


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def book(path):
    return nbformat.read(path, as_version=4)


def code(book):
    return [cell for cell in book.cells if cell.cell_type == "code"]


def unguarded(book):
    """Guarded cells without output: nbval would compare nothing there, and pass."""
    return [cell.source for cell in code(book) if GUARD in cell.source and not cell.outputs]


def test_form(path, book):
    # papermill can't start a notebook without them, even when told the kernel
    kernel = book.metadata.kernelspec
    assert (kernel.name, kernel.language) == ("python3", "python")
    assert [c.source for c in code(book) if len(c.source.splitlines()) > 30] == []
    assert any(GUARD in cell.source for cell in code(book))
    assert unguarded(book) == []
    assert path.stat().st_size < 600 * 1024


def test_one_parameters_cell(book):
    (cell,) = [c for c in book.cells if "parameters" in c.metadata.get("tags", [])]
    statements = ast.parse(cell.source).body
    assert all(isinstance(s, ast.AnnAssign) for s in statements)
    names = [s.target.id for s in statements]
    assert names[:5] == ["profile", "data_root", "seeds", "device", "mode"]  # more are its own
    assert all(isinstance(ast.literal_eval(s.value), str) for s in statements)


def test_nothing_of_one_machine_or_run(path, book):
    for cell in code(book):
        for output in cell.outputs:
            output.get("data", {}).pop("image/png", None)  # base64 may spell anything
    text = nbformat.writes(book)
    for folder in (paths.ROOT, Path.home(), "/home/", "/Users/"):
        assert str(folder) not in text
    assert "widgets" not in book.metadata
    assert "papermill" not in book.metadata
    assert not any("papermill" in cell.metadata for cell in book.cells)
    assert "injected-parameters" not in text
    assert not any(o.output_type == "error" for c in code(book) for o in c.outputs)
