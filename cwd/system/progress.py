"""One line of progress from wherever a run is trained to the terminal where somebody waits.

Notebooks train in a kernel, whose output is not the terminal. What reports therefore appends to the
file that CWD_PROGRESS_FILE names, and `reproduce` shows what arrives there.
"""

import math
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

VARIABLE = "CWD_PROGRESS_FILE"
TRANSIENT = "~"  # a line that starts with it is replaced by the next
QUIET_SECONDS = 30  # between two transient lines where the output is no terminal


def report(line: str, *, transient: bool = False) -> None:
    """Show a line to whoever waits.

    Args:
        line: one line of text.
        transient: whether the next line replaces it.
    """
    if path := os.environ.get(VARIABLE):
        with open(path, "a") as file:
            file.write((TRANSIENT if transient else "") + line + "\n")
    else:
        TERMINAL.show(line, transient)


class Terminal:
    """A stream on which transient lines overwrite each other."""

    def __init__(self) -> None:
        self.shown, self.last = 0, -math.inf

    def show(self, line: str, transient: bool = False) -> None:
        """Write a line to standard error; where that is no terminal, few of the transient ones."""
        live = sys.stderr.isatty()
        if live and transient:  # a longer one would wrap, and could not be overwritten
            line = line[: shutil.get_terminal_size().columns - 1]
        if transient and not live:
            if time.monotonic() - self.last < QUIET_SECONDS:
                return
            self.last = time.monotonic()
        start = "\r" if live and self.shown else ""
        padding = " " * max(0, self.shown - len(line)) if live else ""
        self.shown = len(line) if transient and live else 0
        print(start + line + padding, end="" if self.shown else "\n", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Remove the transient line, if there is one."""
        if self.shown:
            print("\r" + " " * self.shown, end="\r", file=sys.stderr, flush=True)
            self.shown = 0


TERMINAL = Terminal()


class ProgressTail:
    """Shows what other processes report, while the block runs.

    Args:
        path: an empty file, that CWD_PROGRESS_FILE names in those processes.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.over = path, threading.Event()
        self.thread = threading.Thread(target=self.follow, daemon=True)

    def __enter__(self) -> "ProgressTail":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("")
        self.thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.over.set()
        self.thread.join()
        self.path.unlink(missing_ok=True)
        TERMINAL.clear()

    def follow(self) -> None:
        """Show lines as they come; complete ones only."""
        with open(self.path) as file:
            rest = ""
            while True:
                last = self.over.is_set()
                *lines, rest = (rest + file.read()).split("\n")
                for line in lines:
                    TERMINAL.show(line.removeprefix(TRANSIENT), line.startswith(TRANSIENT))
                if last:
                    return
                self.over.wait(0.2)
