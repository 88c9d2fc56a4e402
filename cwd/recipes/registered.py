"""Losses of one's own: a decorator gives a loss its symbol, and recipes know it from then on.

    @loss("MINE", weight=1.0)
    def mine(student_map, teacher_map, target):
        return (student_map - teacher_map).square().mean()

`MINE_f` is a recipe now. A run's key changes with the loss's source: the file or the cell that it
is written in, and those of what it uses of its own module. What it imports is not part of that.
"""

import functools
import inspect
import linecache
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from cwd.losses.maps import matched
from cwd.recipes.notation import PYRAMIDS, SYMBOLS, TAPS, Default, Notation
from cwd.recipes.parse import ALIASES, Term, known_terms
from cwd.system import own_code
from cwd.system.errors import CwdError

# what a loss may be told, see `Term.build`
TOLD = ("channels", "map_size", "student_channels", "teacher_channels", "classes")
RESERVED = ("weight", "align", "levels", "T")  # options that mean something in every recipe
CONSTANTS = bool | int | float | str | tuple | None
REGISTERED: dict[str, Any] = {}  # the function or class of each symbol
_FILES: dict[str, str] = {}  # what stood in the files that were run, which may change since


class OwnLoss(nn.Module):
    """A registered loss, given maps of one size in float32, the teacher's detached."""

    def __init__(self, symbol: str, loss: Callable[..., Tensor], aligned: bool) -> None:
        super().__init__()
        self.symbol, self.loss, self.aligned = symbol, loss, aligned

    def forward(self, student_map: Tensor, teacher_map: Tensor, target: Any = None) -> Tensor:
        maps = matched(student_map, teacher_map, same_channels=self.aligned)
        seen = [given for given in (*maps, target) if isinstance(given, Tensor)]
        before = [given._version for given in seen]
        with own_code.running(f"loss {self.symbol}"):
            value = self.loss(*maps, target)
        if before != [given._version for given in seen]:  # other terms and runs see them, too
            raise CwdError(
                f"loss {self.symbol} changes its maps or the target in place: work on a copy, such "
                "as teacher_map.clone()."
            )
        if not isinstance(value, Tensor) or value.ndim or value.is_complex():
            shape = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            kind = f"{value.dtype} " if isinstance(value, Tensor) and value.is_complex() else ""
            raise CwdError(
                f"loss {self.symbol} gives {kind}{shape}: give a scalar, such as a mean."
            )
        return value


def loss(
    symbol: str,
    *,
    weight: float = 1.0,
    taps: Iterable[str] = ("s", "f"),
    aligned: bool = True,
    labelled: bool = False,
) -> Callable[[Any], Any]:
    """Register a loss; a decorator of a function, or of a module's class.

    It is called as `loss(student_map, teacher_map, target)` with float32 maps [B, C, h, w] of one
    size, and gives a scalar. A class's arguments, which have defaults, are options of recipes,
    `MINE_f(power=2)`; those of `TOLD` are given to it. Its parameters are trained along.

    Args:
        symbol: letters; "MINE" gives the recipes `MINE_s` and `MINE_f`.
        weight: of a recipe that names none.
        taps: the maps that it may be applied to, of "s", "f", "b", "fpn" and "neck".
        aligned: whether the student's feature map gets the teacher's channels first.
        labelled: whether it needs the class of every position, and so isn't for classifiers.

    Raises:
        CwdError: the symbol is a built-in loss's, or one of these isn't as it should be.
    """
    builtin = symbol in ALIASES or (symbol in SYMBOLS and symbol not in REGISTERED)
    if builtin or not re.fullmatch("[A-Za-z]+", symbol):
        fault = "a loss of this package" if builtin else "no word of letters"
        raise CwdError(f'@loss("{symbol}"): {symbol!r} is {fault}: choose another symbol.')
    if isinstance(weight, str | bool) or not 0 < weight < float("inf"):
        raise CwdError(f'@loss("{symbol}"): the weight is {weight!r}, give a positive number.')
    if not (taps := tuple(taps)) or set(taps) - {*TAPS, *PYRAMIDS}:
        known = ", ".join((*TAPS, *PYRAMIDS))
        raise CwdError(f'@loss("{symbol}"): the taps are {taps}, give some of {known}.')

    def register(made: Any) -> Any:
        if (other := REGISTERED.get(symbol, made)).__module__ != made.__module__:
            file = _functions(other)[0].__code__.co_filename
            raise CwdError(f'@loss("{symbol}"): {file} has a loss of that symbol: choose another.')
        file = _functions(made)[0].__code__.co_filename
        linecache.checkcache(file)
        _FILES[file] = "".join(linecache.getlines(file))
        told, options = _arguments(symbol, made)

        @functools.wraps(made, updated=())
        def build(**given: Any) -> OwnLoss:
            return OwnLoss(symbol, made(**given) if isinstance(made, type) else made, aligned)

        defaults = dict.fromkeys(taps, Default(float(weight)))
        about = {"aligned": aligned, "labelled": labelled}
        SYMBOLS[symbol] = Notation(build, defaults, options, told, **about)
        REGISTERED[symbol] = made
        known_terms.cache_clear()
        try:
            source(symbol)
            with torch.random.fork_rng([]):
                built = Term(symbol, taps[0], float(weight)).build()
        except BaseException:
            del SYMBOLS[symbol], REGISTERED[symbol]
            raise
        SYMBOLS[symbol] = replace(SYMBOLS[symbol], learns=any(True for _ in built.parameters()))
        return made

    return register


def _arguments(symbol: str, made: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a loss is told about the maps, and its options; checked."""
    isclass = isinstance(made, type)
    called = made.forward if isclass and issubclass(made, nn.Module) else made
    try:
        inspect.signature(called).bind(*range(4 if isclass else 3))
    except TypeError as error:
        raise CwdError(
            f"loss {symbol} can't be called with a student's map, a teacher's and the target "
            f"({error}): write it as a function of student_map, teacher_map and target, or as a "
            "torch.nn.Module with such a forward."
        ) from None
    names = inspect.signature(made).parameters if isclass else {}
    anything = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)  # a Module's own
    options = tuple(n for n in names if n not in TOLD and names[n].kind not in anything)
    bad = [n for n in options if n in RESERVED or names[n].default is inspect.Parameter.empty]
    if bad:
        raise CwdError(
            f"loss {symbol} has the argument {bad[0]}: give it a default, and a name that isn't "
            f"{', '.join(RESERVED)}."
        )
    return tuple(name for name in names if name in TOLD), options


def _functions(made: Any) -> list[FunctionType]:
    """A function, or a class's own methods, or the one that it inherits."""
    made = inspect.unwrap(made)
    parts = vars(made).values() if isinstance(made, type) else [made]
    return [part for part in parts if isinstance(part, FunctionType)] or [made.forward]


def source(symbol: str) -> str:
    """The digest of a registered loss: of its file or cell, and of what it uses of its module."""
    made, texts, seen = REGISTERED[symbol], {}, set()
    waiting = [made]
    while waiting:
        for function in _functions(waiting.pop()):
            file, space = function.__code__.co_filename, function.__globals__
            texts[file] = _FILES.get(file) or "".join(linecache.getlines(file))
            for name in (set(_names(function.__code__)) & space.keys()) - seen:
                seen.add(name)
                used = space[name]
                if isinstance(used, CONSTANTS):
                    texts[f" {name}"] = f"{name} = {used!r}"
                elif getattr(used, "__module__", "") == made.__module__ and used is not made:
                    waiting += [used] if isinstance(used, type | FunctionType) else []
    if not all(texts.values()):
        raise CwdError(
            f"the source of loss {symbol} can't be read: write it in a file, or in a cell of a "
            "notebook, so that a run can be told from one with another loss."
        )
    return own_code.digest("\n".join(sorted(texts.values())))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _names(part)


def sources(terms: Iterable[Term]) -> tuple[tuple[str, str], ...]:
    """Symbol and digest of every registered loss in a recipe."""
    return tuple((t.symbol, source(t.symbol)) for t in terms if t.symbol in REGISTERED)


def load_losses(*files: str | Path) -> None:
    """Register the losses of Python files; one that has none, or fails, is a `CwdError`."""
    for file in files:
        module, _ = own_code.load_file(file)
        if not any(made.__module__ == module.__name__ for made in REGISTERED.values()):
            raise CwdError(f'{file} registers no loss: write @loss("MINE") above one, see docs.')


def files_of(symbols: Iterable[str]) -> tuple[str, ...]:
    """The files of registered losses, for another process; one of a cell is a `CwdError`."""
    files = {name: _functions(REGISTERED[name])[0].__code__.co_filename for name in symbols}
    for name, file in files.items():
        if not Path(file).is_file():
            raise CwdError(
                f"loss {name} was written in a cell, where no job finds it: put it into a file, "
                "or train with one worker."
            )
    return tuple(dict.fromkeys(files.values()))
