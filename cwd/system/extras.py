"""Packages that only some of the package needs: what is missing is said when it is used."""

import importlib
from typing import Any

from cwd.system.errors import CwdError

EXTRAS = {
    "pycocotools": "detection",
    **dict.fromkeys(("onnx", "onnxruntime", "onnxscript"), "export"),
    "submitit": "slurm",
    "tensorboard": "log",
    **dict.fromkeys(("jinja2", "latex2mathml", "matplotlib", "nbconvert", "nbformat", "papermill",
                     "seaborn"), "notebooks"),
}  # fmt: skip


def missing(package: str | None) -> CwdError:
    """The sentence for a package that isn't installed."""
    name = (package or "a package").partition(".")[0]
    extra = f"[{EXTRAS[name]}]" if name in EXTRAS else ""
    return CwdError(f"this needs {name}, which isn't installed: pip install 'cwd{extra}'.")


class Lazy:
    """A module of an extra, imported at its first use.

    Raises:
        CwdError: when it is used and isn't installed.
    """

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        try:
            return getattr(importlib.import_module(self._module), name)
        except ModuleNotFoundError as error:
            raise missing(error.name) from error
