"""The networks, by name: `names` is the grammar, `build` the way from a name to a network.

`Taps` makes any network one of ours, and `load` gives a trained student from its file.
"""

from importlib import import_module
from typing import Any

_PLACES = {"build_network": "build", "Taps": "taps"}
_PLACES |= dict.fromkeys(("load", "push"), "student_file")
__all__ = ["Taps", "build_network", "load", "push"]


def __getattr__(name: str) -> Any:
    """One of the above, imported when it is used: who asks for a name's kind needs no timm."""
    if name in _PLACES:
        return getattr(import_module(f"cwd.models.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
