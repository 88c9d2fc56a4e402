"""Running the notebooks in order through papermill: `make reproduce`."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import papermill
import yaml
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError

from cwd.experiments.profile import Profile
from cwd.experiments.study import every_run, study
from cwd.experiments.workspace import Workspace, open_profile
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.system.files import exclusive, write_text
from cwd.system.progress import TERMINAL, VARIABLE, ProgressTail
from cwd.tools.environment import environment
from cwd.tools.pages import section, write_page
from cwd.tools.record import check, compare
from cwd.tools.train import train_runs

MAIN_TABLE = "table2"
CHECK = "record_check"  # the table that compares with the record
CITIES = "the paper's networks on Cityscapes beside ours"
UNTOLD = ["complexity", "sd", "seeds"]  # columns that say nothing of one seed
TITLES = {
    MAIN_TABLE: "Table 2, the paper's mIoU beside ours",
    "table9": "Table 9, the paper's COCO AP beside ours",
    "transformation": "The second paper's gains beside ours, four tasks",
    CHECK: "Runs that were trained here beside their record",
}
CONTENTS = {
    "notebooks": "executed notebooks",
    "html": "the same as HTML",
    "tables": "every table as CSV",
    "figures": "every figure as PNG",
}
# numbers of the notebooks on detectors, on the second paper, and on claims
DETECTION, TRANSFORMATION, LAST = "A1", "A2", "99"
FIRST, NAMED = "start", ("start", "laboratory", "rivals_by_hand")  # those without a number
# In the kernels: no progress bars, a known order of sets, and nothing of what `make test` sets for
# nbval, which would go before the parameters.
ENVIRONMENT = {
    "TQDM_DISABLE": "1",
    "PYTHONHASHSEED": "0",
    "CWD_PROFILE": None,
    "CWD_DATA_ROOT": None,
}


def reproduce(
    profile: str,
    *,
    data_root: str | Path = "data",
    seeds: str = "",
    device: str = "auto",
    mode: str = "",
    only: str = "",
    workers: int | None = 1,
    notebooks: Path = paths.NOTEBOOKS,
    output: Path | None = None,
) -> Path:
    """Execute every notebook under a profile and lay out what comes of it.

    `only` are numbers of notebooks, such as "01,02", all if empty; seeds are comma-separated, the
    profile's own if empty; the mode says what is trained and what is taken from the record, see
    `cwd.experiments.workspace`. Unless `only` says which notebooks, runs are trained first, in
    `workers` processes, or as many as the machine has room for, and those of the first table are
    shown as soon as they are there. In the end all are compared with the record. A relative
    `data_root` is below the checkout's root.

    Returns the output's folder, `build/PROFILE` if None: `notebooks/`, `html/`, `tables/`,
    `figures/`, `index.html`. A setting that is wrong, a notebook that failed, another process at
    the same output, or a result unlike its record is a `CwdError`.
    """
    parameters = {"profile": profile, "data_root": str(data_root), "seeds": seeds, "device": device}
    parameters |= {"mode": mode}
    with environment(ENVIRONMENT):
        workspace = open_profile(**parameters)  # mistakes show before any work
        output = output or workspace.output
        books = fitting(find_notebooks(notebooks), workspace.profile)
        chosen = choose(books, only)
        for book in chosen:  # papermill only warns
            if missing := parameters.keys() - papermill.inspect_notebook(str(book)).keys():
                raise CwdError(
                    f"{book.name} has no parameter {', '.join(sorted(missing))}: add it to the "
                    "cell tagged parameters."
                )
        with exclusive(output / ".lock", paths.for_people(output)):
            write_text(output / "parameters.yaml", yaml.safe_dump(parameters, sort_keys=False))
            if not only:
                _train_first(workspace, workers)
            for number, book in enumerate(chosen, start=1):
                began, place = time.monotonic(), f"[{number}/{len(chosen)}] {book.stem}"
                TERMINAL.show(place, transient=True)
                _write_html(_execute(book, output, parameters), output / "html")
                minutes, seconds = divmod(round(time.monotonic() - began), 60)
                TERMINAL.show(f"{place}  done in {minutes} min {seconds} s")
            compared = compare(workspace)
            if len(compared):
                workspace.save_table(compared.set_index("run"), CHECK)
            _write_index(output, books, profile, parameters)
    _summarise(output, profile)
    check(compared)
    return output


def first(profile: str, *, workers: int | None = 1, **place: Any) -> None:
    """Train the core of a profile, print its table beside the paper's, and say where to go on.

    `place` are the other arguments of `cwd.experiments.workspace.open_profile`.
    """
    workspace = open_profile(profile, **place)
    if not workspace.core:
        raise CwdError(f"profile {workspace.profile.name} has no segmentation networks: use quick.")
    _train_core(workspace, workers)
    print("make reproduce   the notebooks, with every other row as recorded")
    print("make lab         the notebooks in JupyterLab, first start.ipynb")


def _train_core(workspace: Workspace, workers: int | None) -> None:
    """Train the runs of the first table, and print it."""
    train_runs(workspace, workspace.core, workers=workers)
    table = study(MAIN_TABLE, workspace)
    rows = (row for row in table.rows if row.runs[0] in workspace.core)
    one = tuple(replace(row, runs=row.runs[:1]) for row in rows)
    print(f"\nFrom one seed, {CITIES}, {workspace.profile.about} (mIoU in %):\n")
    print(replace(table, rows=one).table().drop(columns=UNTOLD).to_string(na_rep=""))
    print(flush=True)


def _train_first(workspace: Workspace, workers: int | None) -> None:
    """Train what the notebooks will ask for; the runs of the first table before the others."""
    if workspace.core:
        _train_core(workspace, workers)
    if workers != 1:
        asked = every_run(workspace, optional=workspace.trains_optional)
        left = [run for run in asked if not (run in workspace.core or workspace.recorded(run))]
        train_runs(workspace, left, workers=workers)


def find_notebooks(folder: Path) -> list[Path]:
    """The notebooks as they run: the first, numbers, appendices, names; last what is said of all.

    No notebook at all is a `CwdError`.
    """
    found = [*folder.glob("[0-9AB]*_*.ipynb"), *(folder / f"{name}.ipynb" for name in NAMED)]
    books = sorted(filter(Path.is_file, found), key=lambda b: (_place(b.stem), b.stem))
    if not books:
        raise CwdError(f"{folder} holds no notebooks: run this from a complete checkout.")
    return books


def _place(stem: str) -> int:
    return 0 if stem == FIRST else 2 if stem.startswith(LAST) else 1


def fitting(books: Sequence[Path], profile: Profile) -> list[Path]:
    """The notebooks for which a profile has networks.

    Those are detectors for A1, what the second paper compares for A2, and segmentation networks for
    the rest; the claims are about all of them.
    """
    has = {LAST: True, DETECTION: profile.detection, TRANSFORMATION: profile.transformation}
    return [book for book in books if has.get(_number(book), profile.student)]


def choose(books: Sequence[Path], only: str) -> list[Path]:
    """The notebooks whose numbers `only` lists; all if it is empty.

    A number that is no notebook's, or of one that the profile has no networks for, is a `CwdError`.
    """
    numbers = [_number(book) for book in books]
    wanted = {item.strip() for item in only.split(",")} if only else set(numbers)
    if unknown := wanted - set(numbers):
        raise CwdError(
            f"there is no notebook {', '.join(sorted(unknown))} for this profile: use some of "
            f"{', '.join(numbers)}."
        )
    return [book for book in books if _number(book) in wanted]


def _number(book: Path) -> str:
    return book.stem.partition("_")[0]


def _execute(book: Path, output: Path, parameters: dict[str, str]) -> Path:
    """Execute one notebook; returns the executed copy."""
    executed = output / "notebooks" / book.name
    executed.parent.mkdir(parents=True, exist_ok=True)
    # only the kernel reports through the file, this process writes to the terminal itself
    progress = output / ".progress"
    try:
        with ProgressTail(progress), environment({VARIABLE: str(progress.resolve())}):
            papermill.execute_notebook(
                str(book),
                str(executed),
                parameters=parameters,
                kernel_name="python3",
                progress_bar=False,
                cwd=str(book.parent),
                start_timeout=300,
                # its warnings about transport and shutdown would tear the progress line
                extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
            )
    except PapermillExecutionError as error:
        sentence = error.evalue if error.ename == "CwdError" else f"{error.ename}: {error.evalue}"
        raise CwdError(
            f"{book.name}, cell {error.exec_count}: {sentence} (The traceback is in "
            f"{paths.for_people(executed)}; finished runs are kept.)"
        ) from error
    except DeadKernelError as error:
        raise CwdError(
            f"{book.name}: its kernel died, most likely for want of memory: close other programs "
            "and run the same command, it goes on from the last checkpoint."
        ) from error
    return executed


def _write_html(executed: Path, folder: Path) -> None:
    body, _ = HTMLExporter(embed_images=True).from_filename(str(executed))
    # the notebooks link to each other; their copies shall too
    write_text(folder / f"{executed.stem}.html", body.replace('.ipynb"', '.html"'))


def _title_of(book: Path) -> str:
    """A notebook's heading, or its file's name if it has none."""
    cells = nbformat.read(book, as_version=4).cells
    lines = [line for c in cells if c.cell_type == "markdown" for line in c.source.splitlines()]
    return next((line[2:] for line in lines if line.startswith("# ")), book.stem)


def _older_settings(executed: Path, parameters: dict[str, str]) -> str:
    """In what a notebook that was executed by an earlier call differs: " (with seeds 0,1)"."""
    known = (
        nbformat.read(executed, as_version=4).metadata.get("papermill", {}).get("parameters", {})
    )
    odd = [f"{name} {known[name] or 'of the profile'}" for name, value in parameters.items()
           if known.get(name, value) != value]  # fmt: skip
    return f" (with {', '.join(odd)})" if odd else ""


def _write_index(
    output: Path, books: Sequence[Path], profile: str, parameters: dict[str, str]
) -> None:
    links = []
    for book in books:
        executed = output / "notebooks" / book.name
        if executed.is_file() and (output / "html" / f"{book.stem}.html").is_file():
            odd = _older_settings(executed, parameters)
            links.append((f"html/{book.stem}.html", _title_of(book) + odd))
            if odd:
                TERMINAL.show(f"{book.stem} is of an earlier call{odd}")
    title = f"Channel-wise distillation: {profile}"
    page = section(title, output, links=links, opened=(MAIN_TABLE,))
    write_page(output / "index.html", [page])


def _summarise(output: Path, profile: str) -> None:
    for name, title in TITLES.items():
        table = output / "tables" / f"{name}.csv"
        if table.is_file():
            print(f"\n{title} (profile {profile}, in %):\n")
            columns = slice(8) if name == "table9" else slice(None)
            print(pd.read_csv(table, index_col=0).iloc[:, columns].to_string(na_rep=""))
    shown = paths.for_people(output)
    print(f"\n{'open':19} {shown}/index.html")
    for folder, what in CONTENTS.items():
        print(f"{what:19} {shown}/{folder}/")
    print(f"{'runs':19} {paths.for_people(paths.RUNS)}/")
