"""Running the notebooks in order through papermill: `make reproduce`."""

import re
import threading
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

import nbformat
import pandas as pd
import papermill
import yaml

from cwd.experiments.claims.judging import layout, verdicts
from cwd.experiments.profile import Profile
from cwd.experiments.study import TABLES, every_run
from cwd.experiments.workspace import Workspace, open_profile
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.system.files import exclusive, write_text
from cwd.system.progress import TERMINAL, VARIABLE, ProgressTail
from cwd.tools.book import Book, Page, tabled
from cwd.tools.environment import environment
from cwd.tools.execute import execute, side_by_side
from cwd.tools.first import MAIN_TABLE, train_first
from cwd.tools.front import front
from cwd.tools.record import check, compare
from cwd.tools.train import Settings
from cwd.training.run_folder import RunFolder

MOST = 4  # notebooks at once: a kernel takes a gigabyte
INTERRUPTED = "it was interrupted"
CHECK = "record_check"  # the table that compares with the record
SHOWN = (MAIN_TABLE, "table9", "transformation")  # on the front page
# numbers of the notebooks on detectors, on the second paper, and on claims
DETECTION, TRANSFORMATION, LAST = "A1", "A2", "99"
ALONE = "05", LAST  # what others would slow that are executed beside it; and what looks at all
# those without a number, and where they are read
FIRST, NAMED = "start", {"start": "", "laboratory": "0", "rivals_by_hand": "02_r"}
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
    shown as soon as they are there; then as many notebooks are executed at once. In the end all are
    compared with the record. A relative `data_root` is below the checkout's root.

    Returns the output's folder, `build/PROFILE` if None: `notebooks/`, `html/`, `tables/`,
    `figures/`, `index.html`. A setting that is wrong, a notebook that failed, another process at
    the same output, or a result unlike its record is a `CwdError`.
    """
    parameters = {"profile": profile, "data_root": str(data_root), "seeds": seeds, "device": device}
    parameters |= {"mode": mode}
    with environment(ENVIRONMENT):
        workspace = open_profile(**parameters)  # mistakes show before any work
        output = (output or workspace.output).absolute()
        count = min(MOST, Settings(workers=workers).at_once(workspace.device) or 1)
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
                train_first(workspace, workers)
            site, compared = Book(output, f"CWD, profile {profile}", pages_of(books)), None
            try:
                _execute_all(chosen, site, workspace, parameters, count)
                compared = compare(workspace)
                if len(compared):
                    workspace.save_table(compared.set_index("run"), CHECK)
            finally:  # what is there is shown, the notebook that failed as far as it came
                _write_front(site, workspace, parameters, judged=True)
    print(f"open {paths.for_people(output)}/index.html; tables/, figures/ and notebooks/ beside it")
    check(compared)
    return output


def find_notebooks(folder: Path) -> list[Path]:
    """The notebooks as they run: the first, numbers, appendices, names; last what is said of all.

    No notebook at all is a `CwdError`.
    """
    found = [*folder.glob("[0-9AB]*_*.ipynb"), *(folder / f"{name}.ipynb" for name in NAMED)]
    books = sorted(filter(Path.is_file, found), key=lambda b: (_place(b), b.stem))
    if not books:
        raise CwdError(f"{folder} holds no notebooks: run this from a complete checkout.")
    return books


def _place(book: Path) -> int:
    return 0 if book.stem == FIRST else 2 if _number(book) == LAST else 1


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


def _execute_all(
    chosen: list[Path], site: Book, workspace: Workspace, parameters: dict[str, str], count: int
) -> None:
    """Execute notebooks and write their pages, `count` at once; in the end those `ALONE`."""
    writing, running = threading.Lock(), set()

    def one(book: Path) -> None:
        began, place = time.monotonic(), f"[{chosen.index(book) + 1}/{len(chosen)}] {book.stem}"
        with writing:
            running.add(book.stem)
            _write_front(site, workspace, parameters, running=running)
        TERMINAL.show(place, transient=True)
        executed = site.folder / "notebooks" / book.name
        try:
            execute(book, executed, parameters)
        finally:
            with writing:
                running.remove(book.stem)
                if executed.is_file():
                    site.write_notebook(executed)
        minutes, seconds = divmod(round(time.monotonic() - began), 60)
        TERMINAL.show(f"{place}  done in {minutes} min {seconds} s")

    # only kernels report through the file, this process writes to the terminal itself
    progress = site.folder / ".progress"
    with ProgressTail(progress), environment({VARIABLE: str(progress)}):
        side_by_side(one, [book for book in chosen if _number(book) not in ALONE], count)
        side_by_side(one, [book for book in chosen if _number(book) in ALONE], 1)


def pages_of(books: Sequence[Path]) -> list[Page]:
    """Notebooks as they are read: their headings, and the questions or goals under these."""
    pages = []
    for book in sorted(books, key=lambda book: NAMED.get(book.stem, book.stem)):
        cells = nbformat.read(book, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        title = re.search(r"^# (.*)", text, re.MULTILINE)
        about = re.search(r"^\*\*(?:Question|Goals)\.\*\* (.*)", text, re.MULTILINE)
        pages.append(Page(book.stem, title[1] if title else book.stem, about[1] if about else ""))
    return pages


def _note(executed: Path, parameters: dict[str, str]) -> str:
    """What is to be said of an executed notebook: that it failed, or in what its call differs."""
    if not executed.is_file():
        return "not executed yet"
    try:
        book = nbformat.read(executed, as_version=4)
    except (nbformat.reader.NotJSONError, UnicodeDecodeError):  # it is half written
        return INTERRUPTED
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    known = book.metadata.get("papermill", {}).get("parameters", {})
    notes = [f"{name} {known[name] or 'of the profile'}" for name, value in parameters.items()
             if known.get(name, value) != value]  # fmt: skip
    notes = [f"of an earlier call with {', '.join(notes)}"] if notes else []
    failed = [output for output in outputs if output.output_type == "error"]
    notes += [f"it failed: {error.ename}: {error.evalue}" for error in failed[:1]]
    if not failed and any(cell.get("execution_count", 0) is None for cell in book.cells):
        notes.append(INTERRUPTED)
    return "; ".join(notes)


def _write_front(
    site: Book,
    workspace: Workspace,
    parameters: dict[str, str],
    *,
    judged: bool = False,
    running: Collection[str] = (),
) -> None:
    """Write the front page, from what is measured, perhaps with verdicts, and the tables there."""
    titles = {name: TABLES[name].title for name in SHOWN} | {CHECK: "Trained here, and recorded"}
    rest = [
        tabled(pd.read_csv(file, index_col=0), title, f"tables/{name}.csv")
        for name, title in titles.items()
        if (file := site.folder / "tables" / f"{name}.csv").is_file()
    ]
    claims = {}
    if judged:
        with suppress(CwdError):  # of a damaged record, which a notebook names
            claims = {workspace.profile: verdicts(workspace)}
    rest += [tabled(layout(table), "The papers' claims") for table in claims.values()]
    runs = every_run(workspace)
    recorded = {run for run in runs if workspace.recorded(run) or workspace.taken(run)}
    here = [r for r in runs if r not in recorded and RunFolder(paths.RUNS, r).finished]
    counts = {"runs": len(runs), "here": len(here), "recorded": len(recorded)}
    said = front([workspace.records], claims, profile=workspace.profile, **counts)
    books = {page.name: site.folder / "notebooks" / f"{page.name}.ipynb" for page in site.pages}
    notes = dict.fromkeys(running, "being executed")
    notes |= {n: _note(book, parameters) for n, book in books.items() if n not in running}
    site.write_front(said, "\n\n".join(rest), notes)
