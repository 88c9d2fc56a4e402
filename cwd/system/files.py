"""Writing files and folders so that a reader never sees half of one."""

import contextlib
import errno
import functools
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from cwd.system.errors import CwdError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary path beside `path`, then rename it into place.

    After a `CwdError` (a full disk, a folder that can't be written) `path` is as it was before.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    make_folder(path.parent)
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        raise unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def unwritable(path: Path, error: Exception) -> CwdError:
    """What is raised for a failed write; torch has errors of its own."""
    if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):
        remedy = "move away what is in its place"
    elif isinstance(error, OSError) and error.errno not in FULL:
        remedy = "make its folder writable"
    else:
        remedy = "free some disk space"
    return CwdError(f"{path} could not be written ({error}): {remedy} and start the command again.")


def make_folder(path: Path) -> Path:
    """Make a folder, and those above it; one that can't be is a `CwdError`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    return path


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_atomic(path, lambda temporary: temporary.write_text(text))


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def copy_file(source: Path, target: Path) -> None:
    """Copy a file atomically."""
    write_atomic(target, functools.partial(shutil.copyfile, source))


def read_json(path: Path, remedy: str, form: TypeAdapter | None = None) -> dict[str, Any]:
    """Read a mapping, of a form if one is given, from a JSON file.

    If it holds none, the `CwdError` names the first entry that is wrong and ends with `remedy`.
    """
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise CwdError(f"{path} can't be read ({error}): {remedy}.") from error
    if not isinstance(found, dict):
        raise CwdError(f"{path} holds {found!r:.40} where a mapping was expected: {remedy}.")
    if form:
        check_form(found, form, path, remedy)
    return found


def check_form(found: Any, form: TypeAdapter, path: Path, remedy: str) -> None:
    """Refuse what a file holds, if it isn't of a form, by the `CwdError` of `read_json`."""
    try:
        form.validate_python(found, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        fault = f"{first['input']!r:.40} for {place} ({first['msg'].lower()})"
        fault = f"no {place}" if first["type"] == "missing" else fault
        raise CwdError(f"{path} has {fault}: {remedy}.") from None


def save_figure(figure: Any, path: Path) -> None:
    """Write a matplotlib figure as PNG of 256 colours, a third of the bytes, atomically."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=150, bbox_inches="tight")
    few = Image.open(drawn).convert("RGB").quantize(256, kmeans=3, dither=Image.Dither.NONE)
    write_atomic(path, lambda file: few.save(file, "PNG", optimize=True))


@contextlib.contextmanager
def exclusive(path: Path, what: str, patience: float = 5.0) -> Iterator[None]:
    """Hold an advisory lock on `path` while the block runs.

    It is gone the moment the process dies, even by SIGKILL. A notebook's kernel outlives its killed
    runner by two seconds; after `patience` a `CwdError` says that `what` is another process's.
    """
    make_folder(path.parent)
    try:
        held = FileLock(path).acquire(timeout=patience)
    except Timeout as error:
        raise CwdError(
            f"{what} is in the hands of another process: wait for it, or stop it and start again."
        ) from error
    except OSError as error:
        raise unwritable(path, error) from error
    with held:
        yield
