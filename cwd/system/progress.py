"""Progress from wherever a run is trained to the terminal where somebody waits.

A notebook's kernel has no terminal: what it reports is appended to the file that CWD_PROGRESS_FILE
names, and `reproduce` shows it.
"""

import math
import os
import shutil
import sys
import threading
import time
from pathlib import Path

from tqdm.auto import tqdm

VARIABLE = "CWD_PROGRESS_FILE"
TRANSIENT = "~"  # a line that starts with it is replaced by the next
NOTEBOOK = any(kind.__name__ == "tqdm_notebook" for kind in tqdm.__mro__)
QUIET_SECONDS = 30  # between two transient lines in a log


def report(line: str, *, transient: bool = False) -> None:
    """Show a line to whoever waits; a transient one is replaced by the next."""
    try:
        with open(os.environ[VARIABLE], "a") as file:
            file.write((TRANSIENT if transient else "") + line + "\n")
    except (KeyError, OSError):  # nobody reads the file, or it can't be written
        TERMINAL.show(line, transient)


class Terminal:
    """Standard error, be it a terminal, a notebook's output or a log."""

    def __init__(self) -> None:
        self.bar, self.last = None, -math.inf

    def show(self, line: str, transient: bool = False) -> None:
        """Write a line; a log gets few of the transient ones."""
        if transient and (NOTEBOOK or sys.stderr.isatty()):
            if self.bar is None:
                self.bar = tqdm(bar_format="{desc}", leave=False, file=sys.stderr)
            # a longer one would wrap, and could not be overwritten
            self.bar.set_description_str(line[: shutil.get_terminal_size().columns - 1])
        elif not transient or time.monotonic() - self.last >= QUIET_SECONDS:
            self.clear()
            print(line, file=sys.stderr, flush=True)
            self.last = time.monotonic() if transient else self.last

    def clear(self) -> None:
        """Remove the transient line, if there is one."""
        if self.bar is not None:
            self.bar.close()
        self.bar = None


TERMINAL = Terminal()


class ProgressTail(threading.Thread):
    """Shows what processes report whose CWD_PROGRESS_FILE is `path`, while the block runs."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.path, self.over = path, threading.Event()

    def __enter__(self) -> "ProgressTail":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()
        self.path.unlink(missing_ok=True)
        TERMINAL.clear()

    def run(self) -> None:
        """Show complete lines as they come."""
        with open(self.path) as file:
            rest, last = "", False
            while not last:
                last = self.over.wait(0.2)
                *lines, rest = (rest + file.read()).split("\n")
                for line in lines:
                    TERMINAL.show(line.removeprefix(TRANSIENT), line.startswith(TRANSIENT))
