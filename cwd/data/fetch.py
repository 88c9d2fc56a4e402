"""Downloading an archive and unpacking one folder of it, which is there when all of it is."""

import errno
import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path

from torchvision.datasets.utils import (
    check_integrity,
    download_and_extract_archive,
    extract_archive,
)

from cwd.system.errors import CwdError
from cwd.system.files import unwritable
from cwd.system.progress import report

DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError)


def fetch(
    what: str, url: str, inside: str, destination: Path, *, size: int, md5: str | None = None
) -> None:
    """Get an archive (`what`, for people) by torchvision, unless it is there already and whole.

    It may also have been put by hand into a folder above `destination`, whose name is then that of
    the folder `inside`, a pattern of its path in the archive. A tar must have a checksum, since its
    paths aren't looked at; a zip without one is got again if it hasn't its `size` in bytes.
    Whatever goes wrong is a `CwdError`.
    """
    if destination.is_dir() and any(destination.iterdir()):
        raise CwdError(
            f"{destination} is there and is incomplete or something else: move it away, and run "
            "the same command again."
        )
    partial = destination.with_name(f".{destination.name}.partial")
    archive = partial / Path(url).name
    try:
        partial.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(destination.parent, error) from error
    report(f"downloading {what}, {size / 1e9:.1f} GB")
    try:
        for left in partial.iterdir():
            if left.is_dir():
                shutil.rmtree(left)
            elif left != archive or (not md5 and left.stat().st_size != size):
                left.unlink()  # torchvision would take it for the whole
        beside = [place / archive.name for place in destination.parents[:3]]
        if found := next((path for path in beside if path.is_file()), None):
            if not check_integrity(str(found), md5):
                raise RuntimeError(f"{found} has another checksum, delete it")
            extract_archive(str(found), str(partial))
        else:
            download_and_extract_archive(url, str(partial), filename=archive.name, md5=md5)
        next(partial.glob(inside)).replace(destination)
        shutil.rmtree(partial)
    except (OSError, RuntimeError, StopIteration, *DAMAGED) as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise unwritable(destination, error) from error
        if isinstance(error, DAMAGED):
            archive.unlink(missing_ok=True)
        words = str(error).splitlines() or ["no answer"]
        raise CwdError(
            f"{what} could not be got ({words[0]}): run the same command again on a machine with a "
            f"network, or get {url} there, put it into {destination.parent} and run the command."
        ) from error
