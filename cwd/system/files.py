"""Writing files and folders so that a reader never sees half of one."""

import contextlib
import csv
import errno
import fcntl
import io
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from cwd.system.errors import CwdError


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary path beside `path`, then rename it into place.

    Args:
        path: the file to create or replace.
        write: receives the temporary path and writes the whole file there.

    Raises:
        CwdError: the disk is full or the folder can't be written; `path` is as it was before.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        raise unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def unwritable(path: Path, error: OSError | RuntimeError) -> CwdError:
    """The sentence for a failed write; torch reports a full disk as a RuntimeError."""
    full = getattr(error, "errno", None) == errno.ENOSPC or isinstance(error, RuntimeError)
    remedy = "free some disk space" if full else "make its folder writable"
    return CwdError(f"{path} could not be written ({error}): {remedy} and start the command again.")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically (see `write_atomic`)."""
    write_atomic(path, lambda temporary: temporary.write_text(text))


def write_csv(path: Path, rows: Sequence[dict[str, Any]], columns: Sequence[str] = ()) -> None:
    """Write rows with the same columns as CSV, atomically.

    Args:
        path: the file.
        rows: values by column.
        columns: those of a table without rows.
    """
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(rows[0]) if rows else columns)
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, table.getvalue())


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Read a JSON file.

    Args:
        path: the file.
        remedy: what to do if it can't be read, for the error's sentence.

    Raises:
        CwdError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CwdError(f"{path} can't be read ({error}): {remedy}.") from error


def save_figure(figure: Any, path: Path) -> None:
    """Write a matplotlib figure as PNG, atomically."""
    write_atomic(
        path, lambda file: figure.savefig(file, format="png", dpi=150, bbox_inches="tight")
    )


@contextlib.contextmanager
def exclusive(path: Path, what: str, patience: float = 5.0) -> Iterator[None]:
    """Hold an advisory lock on `path` while the block runs.

    The lock belongs to the process: it is gone the moment the process dies, even by SIGKILL.

    Args:
        path: the lock file, made if it isn't there.
        what: the thing that is locked, as an error calls it.
        patience: seconds to wait for it; a notebook's kernel outlives its killed runner by two.

    Raises:
        CwdError: another process holds the lock, or the lock file can't be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise unwritable(path, error) from error
    with open(path, "a+") as file:
        until = time.monotonic() + patience
        while not try_lock(file):
            if time.monotonic() > until:
                file.seek(0)
                owner = file.read().strip() or "unknown"
                raise CwdError(
                    f"{what} is in the hands of another process (id {owner}): wait for it to end, "
                    "or stop it and start this command again."
                )
            time.sleep(0.2)
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield


def try_lock(file: IO[str]) -> bool:
    """Lock an open file, unless another process has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
