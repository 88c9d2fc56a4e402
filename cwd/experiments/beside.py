"""What notebooks 05, 04, A1 and 07 measure beside the runs: what their files have to say."""

from typing import Annotated, Any, NotRequired

import pandas as pd
from pydantic import AfterValidator, Field, FiniteFloat, TypeAdapter
from typing_extensions import TypedDict

from cwd.system import paths
from cwd.training.forms import Session

RECIPES = ("", "AT_f", "CW_f", "CW_s")  # whose channels are measured, beside the teacher's
CWD = "CW_f"  # whose step's time is a budget for other recipes
PARTS = ("student", "teacher")  # of a training step, which its losses are a share of

Above0 = Annotated[FiniteFloat, Field(gt=0)]
Distance = Annotated[FiniteFloat, Field(ge=0)]


def _parts(seconds: dict[str, list[float]]) -> dict[str, list[float]]:
    if not set(PARTS) <= seconds.keys() or len({len(turns) for turns in seconds.values()}) > 1:
        raise ValueError(f"not {' and '.join(PARTS)} and as many numbers of each part")
    return seconds


def _recipes(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if missing := {"teacher", *RECIPES} - {line["recipe"] for line in lines}:
        raise ValueError(f"nothing of recipe {min(missing)!r}")
    return lines


class _Measured(TypedDict):
    profile: NotRequired[str]  # the earliest files have neither
    provenance: NotRequired[Session]


class _Point(TypedDict):
    loss: str
    positions: int
    channels: int
    seconds: Above0
    bytes: Above0


class _Grid(TypedDict):
    costs: Annotated[list[_Point], Field(min_length=1)]


class _Slope(TypedDict):
    loss: str


class _Step(TypedDict):
    seconds: Annotated[
        dict[str, Annotated[list[Above0], Field(min_length=1)]], AfterValidator(_parts)
    ]


class _Costs(_Measured):
    grid: _Grid
    slopes: Annotated[list[_Slope], Field(min_length=1)]
    step: _Step


class _Channel(TypedDict):
    recipe: str
    seed: int
    auc: Annotated[FiniteFloat, Field(ge=0, le=1)]
    salient: Distance | None
    background: Distance | None


class _Channels(_Measured):
    lines: Annotated[list[_Channel], AfterValidator(_recipes)]


_Speed = TypedDict(
    "_Speed", {"detector": str, "role": str, "network": str, "parameters (M)": Above0,
               "frames/s": Above0},
)  # fmt: skip


class _Speeds(_Measured):
    networks: Annotated[list[_Speed], Field(min_length=1)]


def _budgets(seconds: dict[str, float]) -> dict[str, float]:
    if not {"", CWD} <= seconds.keys():
        raise ValueError(f"nothing of the student alone, or of {CWD}")
    return seconds


class _StepTimes(_Measured):  # by recipe
    seconds: Annotated[dict[str, Above0], AfterValidator(_budgets)]
    bytes: dict[str, Above0]
    parameters: dict[str, int]


FORMS = {
    paths.COSTS: TypeAdapter(_Costs),
    paths.CHANNELS: TypeAdapter(_Channels),
    paths.DETECTION_COSTS: TypeAdapter(_Speeds),
    paths.STEP_TIMES: TypeAdapter(_StepTimes),
}


def lines_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The lines of a table as JSON has them, None for what is missing."""
    return table.astype(object).where(table.notna(), None).to_dict("records")
