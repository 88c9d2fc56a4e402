"""Settings that check themselves: what a value may be, and the sentence where it isn't that.

A good value stays as it was written: the key of a run tells 10 from 10.0.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any

import pydantic
from pydantic import Field, StrictInt, StrictStr, ValidationError
from pydantic_core import ArgsKwargs

from cwd.system.errors import CwdError

HINT = "(write 1.0e-3, not 1e-3)"
BOUNDS = {"ge": "at least", "le": "at most", "lt": "less than"}


def expected(words: str) -> pydantic.WrapValidator:
    """What a value should have been, for the sentence about one that isn't."""

    def check(value: Any, validate: Callable[[Any], Any]) -> Any:
        try:
            return validate(value)
        except ValidationError as error:
            bounds = error.errors()[0].get("ctx", {})
            wanted = next(
                (f"give {BOUNDS[kind]} {bounds[kind]:,}" for kind in BOUNDS if kind in bounds),
                f"expected {words}",
            )
            raise ValueError(f"is {value!r:.60}, {wanted}") from None

    return pydantic.WrapValidator(check)


def _in_order(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError
    return pair


# The upper bounds are far beyond what anybody trains; a number above them is a slip of the pen.
_Number = StrictInt | Annotated[float, pydantic.Strict(), pydantic.AllowInfNan(False)]
_Above0 = Annotated[_Number, Field(gt=0, le=1000)]
_Share = Annotated[_Number, Field(gt=0, le=1)]
_Pixels = Annotated[StrictInt, Field(ge=1, le=16_384)]
_InOrder = pydantic.AfterValidator(_in_order)

Text = Annotated[StrictStr, expected("a text")]
Name = Annotated[StrictStr, Field(min_length=1), expected("a text that isn't empty")]
Switch = Annotated[pydantic.StrictBool, expected("true or false")]
Whole = Annotated[StrictInt, Field(ge=0, le=10**9), expected("a whole number")]
Count = Annotated[StrictInt, Field(ge=1, le=10**9), expected("a whole number")]
Seed = Annotated[StrictInt, Field(ge=0, lt=2**63), expected("a whole number")]
Side = Annotated[StrictInt, Field(ge=32, le=16_384), expected("a whole number of pixels")]
Number = Annotated[_Number, Field(ge=0, le=1000), expected(f"a finite number {HINT}")]
Fraction = Annotated[_Number, Field(ge=0, lt=1), expected("a number from 0 to below 1")]
Positive = Annotated[_Above0, expected(f"a number above 0 {HINT}")]
Size = Annotated[tuple[_Pixels, _Pixels], expected("two positive whole numbers in brackets")]
Range = Annotated[
    tuple[_Above0, _Above0], _InOrder, expected("two positive numbers in brackets, in order")
]
ShareRange = Annotated[
    tuple[_Share, _Share], _InOrder, expected("two shares, 0 < smallest <= largest <= 1")
]
Weights = Annotated[
    tuple[_Above0, ...], Field(min_length=1), expected("positive numbers in brackets, one a class")
]
Mapping = Annotated[dict[StrictStr, Any], expected("a mapping of settings")]


def _check_keys(cls: type, values: Any) -> Any:
    if not isinstance(values, dict | ArgsKwargs | cls):
        raise ValueError(f"is {values!r}, expected a mapping of settings")
    known = [f.name for f in fields(cls)]
    for key in values if isinstance(values, dict) else ():
        if key not in known:
            raise ValueError(f"has the unknown key {key!r}, write one of {', '.join(known)}")
    return values


def settings(cls: type) -> type:
    """A frozen dataclass whose values are checked, wherever they come from.

    Its constructor raises CwdError for a bad value. `__post_init__` may raise a ValueError about
    values that don't go together, in words to stand behind the name of the whole.
    """
    cls.check_keys = pydantic.model_validator(mode="before")(classmethod(_check_keys))
    made = pydantic.dataclasses.dataclass(frozen=True)(cls)
    construct, signature = made.__init__, inspect.signature(made)

    @functools.wraps(construct)
    def init(self: Any, *args: Any, **given: Any) -> None:
        try:
            construct(self, **signature.bind(*args, **given).arguments)
        except ValidationError as error:
            raise CwdError(_sentence(error, made.__name__)) from None

    made.__init__ = init
    return made


def read(kind: type, values: Any, where: str) -> Any:
    """Settings of a class from YAML's mappings, with settings in it from mappings in those.

    Raises:
        CwdError: a key is unknown or missing, or a value isn't what it should be; the sentence
            begins with `where`.
    """
    try:
        return pydantic.TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        raise CwdError(_sentence(error, where)) from None


def _sentence(error: ValidationError, where: str) -> str:
    first = error.errors()[0]
    path = [f"number {part + 1}" if isinstance(part, int) else part for part in first["loc"]]
    place = ": ".join([where, *path])
    if first["type"] == "missing":
        return f"{place} is missing."
    if first["type"] != "value_error":
        words = first["msg"].replace("Input", "it").replace("tuple", "list").replace("Tuple", "it")
        return f"{place} is {first['input']!r}, {words}."
    words = str(first["ctx"]["error"])
    return f"{place}: {words}" if words.endswith(".") else f"{place} {words}."
