"""Running the notebooks in order through papermill: `make reproduce`."""

import contextlib
import html
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat
import pandas as pd
import papermill
import yaml
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError

from cwd import paths
from cwd.errors import CwdError
from cwd.files import write_text
from cwd.progress import TERMINAL, VARIABLE, ProgressTail
from cwd.workspace import open_profile

MAIN_TABLE = "table2"
# In the kernels: no progress bars, and a known order of sets.
ENVIRONMENT = {"TQDM_DISABLE": "1", "PYTHONHASHSEED": "0"}


def reproduce(
    profile: str,
    *,
    data_root: str = "data",
    seeds: str = "",
    device: str = "auto",
    notebooks: Path = paths.NOTEBOOKS,
    output: Path | None = None,
) -> Path:
    """Execute every notebook under a profile and lay out what comes of it.

    Args:
        profile: name of a profile.
        data_root: folder of the datasets, from the checkout's root if relative.
        seeds: comma-separated, empty for the profile's own.
        device: "auto", "cpu" or "cuda".
        notebooks: folder of the notebooks.
        output: where to; `build/<profile>` if None.

    Returns:
        The output's folder: `notebooks/`, `html/`, `tables/`, `figures/`, `index.html`.

    Raises:
        CwdError: a setting is wrong, or a notebook failed.
    """
    workspace = open_profile(profile, data_root, seeds, device)  # mistakes show before any work
    output = output or workspace.output
    parameters = {
        "profile": profile,
        "data_root": str(data_root),
        "seeds": seeds,
        "device": device,
    }
    write_text(output / "parameters.yaml", yaml.safe_dump(parameters, sort_keys=False))
    books = sorted(notebooks.glob("[0-9A]*_*.ipynb"))
    if not books:
        raise CwdError(f"{notebooks} holds no notebooks: run this from a complete checkout.")
    for book in books:
        check_parameters(book, parameters)
    with environment(ENVIRONMENT | {VARIABLE: str(output / ".progress")}):
        for number, book in enumerate(books, start=1):
            began = time.monotonic()
            TERMINAL.show(f"[{number}/{len(books)}] {book.stem}")
            with ProgressTail(output / ".progress"):
                executed = execute(book, output, parameters)
            write_html(executed, output / "html")
            TERMINAL.show(f"      done in {minutes(time.monotonic() - began)}")
    write_index(output, books, profile)
    summarise(output, profile)
    return output


def minutes(seconds: float) -> str:
    """A duration for people."""
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


@contextlib.contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables while the block runs, for the kernels started in it."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def check_parameters(book: Path, parameters: dict[str, str]) -> None:
    """papermill only warns of a parameter that a notebook doesn't have; here that is an error.

    Raises:
        CwdError: the notebook lacks a parameter.
    """
    missing = set(parameters) - set(papermill.inspect_notebook(str(book)))
    if missing:
        raise CwdError(
            f"{book.name} has no parameter {', '.join(sorted(missing))}: add it to the cell tagged "
            "parameters."
        )


def execute(book: Path, output: Path, parameters: dict[str, str]) -> Path:
    """Execute one notebook; returns the executed copy.

    Raises:
        CwdError: a cell failed, or the kernel died.
    """
    executed = output / "notebooks" / book.name
    executed.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            str(book),
            str(executed),
            parameters=parameters,
            kernel_name="python3",
            progress_bar=False,
            cwd=str(book.parent),
        )
    except PapermillExecutionError as error:
        said = f"{error.ename.rpartition('.')[2]}: {error.evalue}"
        message = error.evalue if error.ename.endswith("CwdError") else said
        raise CwdError(
            f"{book.name}, cell {error.exec_count}: {message} (The traceback is in "
            f"{paths.for_people(executed)}; finished runs are kept.)"
        ) from error
    except Exception as error:  # nbclient has several exceptions for a kernel that died
        if "ied" not in type(error).__name__ + str(error):
            raise
        raise CwdError(
            f"{book.name}: its kernel died ({error}), most likely for want of memory: close other "
            "programs and run the same command, it goes on from the last checkpoint."
        ) from error
    return executed


def write_html(executed: Path, folder: Path) -> None:
    """An HTML copy of an executed notebook, pictures included."""
    body, _ = HTMLExporter().from_notebook_node(nbformat.read(executed, as_version=4))
    # the notebooks link to each other; their copies shall too
    write_text(folder / f"{executed.stem}.html", body.replace('.ipynb"', '.html"'))


def write_index(output: Path, books: Sequence[Path], profile: str) -> None:
    """A page with all notebooks, tables and figures."""
    lines = [
        f"<h1>Channel-wise distillation: {html.escape(profile)}</h1>",
        "<h2>Notebooks</h2><ul>",
    ]
    lines += [
        f'<li><a href="html/{b.stem}.html">{b.stem.replace("_", " ")}</a></li>' for b in books
    ]
    lines.append("</ul><h2>Tables</h2>")
    for table in sorted((output / "tables").glob("*.csv")):
        frame = pd.read_csv(table).to_html(index=False, na_rep="", border=0)
        opened = " open" if table.stem == MAIN_TABLE else ""
        lines.append(
            f'<details{opened}><summary><a href="tables/{table.name}">{table.stem}</a></summary>'
            f"{frame}</details>"
        )
    lines.append("<h2>Figures</h2>")
    for figure in sorted((output / "figures").glob("*.png")):
        lines.append(
            f'<figure><img src="figures/{figure.name}" alt="{figure.stem}">'
            f"<figcaption>{figure.stem}</figcaption></figure>"
        )
    write_text(output / "index.html", PAGE.format(body="\n".join(lines)))


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Channel-wise distillation</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
        color: #30343b }}
img {{ max-width: 100% }} figure {{ margin: 1.5rem 0 }} figcaption {{ color: #6f7f8f }}
table {{ border-collapse: collapse; margin: .5rem 0 1rem }}
th, td {{ padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #dde }}
</style>
{body}
</html>
"""


def summarise(output: Path, profile: str) -> None:
    """Print the main table and where everything is."""
    table = output / "tables" / f"{MAIN_TABLE}.csv"
    if table.is_file():
        print(f"\nTable 2, the paper's numbers beside ours (profile {profile}, mIoU in %):\n")
        print(pd.read_csv(table, index_col=0).to_string(na_rep=""))
    shown = paths.for_people(output)
    print(f"\nopen      {shown}/index.html")
    for folder, what in (
        ("notebooks", "executed notebooks"),
        ("html", "the same as HTML"),
        ("tables", "every table as CSV"),
        ("figures", "every figure as PNG"),
    ):
        print(f"{what:19} {shown}/{folder}/")
    print(f"{'runs':19} {paths.for_people(paths.RUNS)}/")
