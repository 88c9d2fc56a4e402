"""The networks, by name: `names` is the grammar, `build` the way from a name to a network."""

from importlib import import_module
from typing import Any

__all__ = ["build_network"]


def __getattr__(name: str) -> Any:
    """`build_network`, imported when it is used: who asks for a name's kind needs no timm."""
    if name == "build_network":
        return import_module("cwd.models.build").build_network
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
