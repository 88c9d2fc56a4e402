"""Writing files and folders so that a reader never sees half of one."""

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from cwd.errors import CwdError


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


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


@contextlib.contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold an advisory lock on `path` while the block runs.

    The lock belongs to the process: it is gone the moment the process dies, even by SIGKILL.

    Raises:
        CwdError: another process holds the lock; `what` names the thing it is busy with.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise CwdError(
                f"{what} is in the hands of another process (id {owner}): wait for it to end, "
                "or stop it and start this command again."
            ) from None
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield
