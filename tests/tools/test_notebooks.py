"""The committed notebooks: papermill can start them, nbval guards them, people can read them."""

import ast
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from cwd.system import paths

NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
NAMES = {
    "00_data_preparation",
    "01_teacher_evaluation",
    "02_method",
    "03_ablations",
    "04_comparisons",
    "05_cost",
    "06_networks_and_datasets",
    "99_claims",
    "A1_detection",
    "A2_channel_transformation",
}
GUARD = "NBVAL_CHECK_OUTPUT"


def test_the_notebooks_are_there():
    assert {path.stem for path in NOTEBOOKS} >= NAMES


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


def test_kernel(book):
    # papermill can't start a notebook without them, even when told the kernel
    assert book.metadata.kernelspec.name == "python3"
    assert book.metadata.kernelspec.language == "python"


def test_one_parameters_cell(book):
    (cell,) = [c for c in book.cells if "parameters" in c.metadata.get("tags", [])]
    statements = ast.parse(cell.source).body
    assert all(isinstance(s, ast.AnnAssign) for s in statements)
    assert [s.target.id for s in statements] == ["profile", "data_root", "seeds", "device"]
    assert all(isinstance(ast.literal_eval(s.value), str) for s in statements)


def test_short_cells(book):
    assert [c.source for c in code(book) if len(c.source.splitlines()) > 30] == []


def test_guarded_cells_carry_their_output(book):
    assert any(GUARD in cell.source for cell in code(book))
    assert unguarded(book) == []


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


def test_size(path):
    assert path.stat().st_size < 600 * 1024


def guarded(folder, printed):
    """A notebook whose guarded cell prints 2 and says that it printed something else, perhaps."""
    cell = v4.new_code_cell(f"# {GUARD}\nprint(1 + 1)", execution_count=1)
    if printed:
        cell.outputs = [v4.new_output("stream", name="stdout", text=printed)]
    book = v4.new_notebook(cells=[cell])
    book.metadata.kernelspec = {"name": "python3", "language": "python", "display_name": "Python 3"}
    nbformat.write(book, folder / "guarded.ipynb")
    return book


def nbval(folder):
    """The exit status of what `make test` runs, on one notebook."""
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env"]
    command += ["-p", "no:cacheprovider", "guarded.ipynb"]
    return subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)


def test_nbval_fails_on_a_wrong_output(tmp_path):
    guarded(tmp_path, printed="3\n")
    result = nbval(tmp_path)
    assert result.returncode == pytest.ExitCode.TESTS_FAILED, result.stdout
    guarded(tmp_path, printed="2\n")
    result = nbval(tmp_path)
    assert result.returncode == 0, result.stdout


def test_a_stripped_notebook_is_reported(tmp_path):
    assert len(unguarded(guarded(tmp_path, printed=""))) == 1
    assert unguarded(guarded(tmp_path, printed="2\n")) == []
