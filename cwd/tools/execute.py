"""Executing notebooks through papermill, several at once."""

import threading
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from cwd.system import paths
from cwd.system.errors import CwdError


def side_by_side(execute: Callable[[Path], None], books: list[Path], count: int) -> None:
    """Call `execute` with notebooks of one folder, from there, in so many threads.

    After an error no other is begun, and it is raised when those that were begun are done. An
    interrupt leaves threads behind that end with this process, and their kernels soon after it.
    """
    if not books:
        return
    failed, waiting = [], iter(books)  # of which each thread takes the next

    def work() -> None:
        for book in waiting:
            if failed:
                return
            try:
                execute(book)
            except Exception as error:  # raised below
                failed.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    # a kernel starts in the current folder, which threads have in common
    with chdir(books[0].parent):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failed:
        raise failed[0]


def execute(book: Path, executed: Path, parameters: dict[str, str]) -> None:
    """Execute one notebook into a copy of it; what goes wrong is a `CwdError`."""
    executed.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            str(book),
            str(executed),
            parameters=parameters,
            kernel_name="python3",
            progress_bar=False,
            start_timeout=300,
            shutdown_kernel="immediate",  # else an interrupt waits for it
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
        _note_death(executed)
        raise CwdError(
            f"{book.name}: its kernel died, most likely for want of memory: close other programs "
            "and run the same command, it goes on from the last checkpoint."
        ) from error


def _note_death(executed: Path) -> None:
    """Note in a copy in which cell its kernel died; papermill calls that cell completed."""
    book = nbformat.read(executed, as_version=4)
    begun = [c for c in book.cells if c.cell_type == "code" and c.metadata.papermill.start_time]
    death = {"ename": "DeadKernelError", "evalue": "the kernel died", "traceback": []}
    for cell in begun[-1:]:
        cell.outputs.append(nbformat.v4.new_output("error", **death))
    nbformat.write(book, executed)
