"""Python files of a reader's own: run once for each text that they have, and known by its digest.

What such a file imports from other files isn't part of the digest: one file holds what matters.
"""

import contextlib
import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from cwd.system import paths
from cwd.system.errors import CwdError

_LOADED: dict[Path, tuple[str, ModuleType]] = {}  # the text that was run, and what came of it


def digest(text: str) -> str:
    """Sixteen hexadecimal digits of a text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextlib.contextmanager
def running(what: str) -> Iterator[None]:
    """Make a `CwdError` of whatever goes wrong in a reader's code; it may even end the process."""
    try:
        yield
    except CwdError:
        raise
    except (Exception, SystemExit) as error:
        shown = " ".join(f"{type(error).__name__}: {error}".split())
        raise CwdError(f"{what} fails when it is run ({shown}): mend it.") from error


def load_file(path: str | Path) -> tuple[ModuleType, str]:
    """A Python file as a module, run unless that was done for the same text; and its digest.

    A relative path is below the checkout's root. A file that can't be read, or fails, is a
    `CwdError`.
    """
    path = paths.below_root(path)
    try:
        text = path.read_text()
    except (OSError, ValueError) as error:
        raise CwdError(f"{path} can't be read ({error}): give the path of a Python file.") from None
    if path not in _LOADED or _LOADED[path][0] != text:
        module = ModuleType(f"own_{path.stem}_{digest(str(path))}")
        module.__file__ = str(path)
        sys.modules[module.__name__] = module
        with running(str(path)):
            exec(compile(text, str(path), "exec"), vars(module))
        _LOADED[path] = text, module
    return _LOADED[path][1], digest(text)


def named(name: str) -> tuple[str, str] | None:
    """The file and the function of "my_net.py:build"; None for another name."""
    match = re.fullmatch(r"(.+\.py):(\w+)", name)
    return match and (match[1], match[2])


def load_function(name: str) -> tuple[Any, str]:
    """What "my_net.py:build" names, and the digest of its file; raises CwdError as `load_file`."""
    file, function = named(name)
    module, known = load_file(file)
    if not callable(found := getattr(module, function, None)):
        raise CwdError(f"{paths.below_root(file)} has no function {function}: name one of its own.")
    return found, known
