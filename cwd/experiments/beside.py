"""What notebooks 05, 04, A1 and 07 measure beside the runs: what their files have to say."""

from collections.abc import Callable
from typing import Annotated, Any, NotRequired

import pandas as pd
from pydantic import AfterValidator, Field, FiniteFloat, TypeAdapter

from cwd.system import paths
from cwd.training.forms import SESSION, mapping

RECIPES = ("", "AT_f", "CW_f", "CW_s")  # whose channels are measured, beside the teacher's
CWD = "CW_f"  # whose step's time is a budget for other recipes
PARTS = ("student", "teacher")  # of a training step, which its losses are a share of

Above0 = Annotated[FiniteFloat, Field(gt=0)]
Distance = Annotated[FiniteFloat, Field(ge=0)]
Share = Annotated[FiniteFloat, Field(ge=0, le=1)]


def _lines(**columns: Any) -> Any:
    return Annotated[list[mapping(**columns)], Field(min_length=1)]


def _file(**entries: Any) -> TypeAdapter:
    # the earliest have neither profile nor provenance
    about = {"profile": NotRequired[str], "provenance": NotRequired[SESSION]}
    return TypeAdapter(mapping(**entries, **about))


def _with(*names: str, of: Callable[[Any], Any] = set) -> AfterValidator:
    def check(found: Any) -> Any:
        if missing := set(names) - set(of(found)):
            raise ValueError(f"nothing of {min(missing)!r}")
        return found

    return AfterValidator(check)


def _paired(turns: dict[str, list[float]]) -> dict[str, list[float]]:
    if len({len(each) for each in turns.values()}) > 1:
        raise ValueError("not as many numbers of each")
    return turns


_points = _lines(loss=str, positions=int, channels=int, seconds=Above0, bytes=Above0)
_turns = dict[str, Annotated[list[Above0], Field(min_length=1)]]
_step = mapping(seconds=Annotated[_turns, _with(*PARTS), AfterValidator(_paired)])
_gaps = dict.fromkeys(("salient", "background"), Distance | None)
_seen = _with("teacher", *RECIPES, of=lambda lines: [line["recipe"] for line in lines])
_channels = Annotated[_lines(recipe=str, seed=int, auc=Share, **_gaps), _seen]
_speed = dict.fromkeys(("parameters (M)", "frames/s"), Above0)
_times = Annotated[dict[str, Above0], _with("", CWD)]
FORMS = {
    paths.COSTS: _file(grid=mapping(costs=_points), slopes=_lines(loss=str), step=_step),
    paths.CHANNELS: _file(lines=_channels),
    paths.DETECTION_COSTS: _file(networks=_lines(detector=str, role=str, network=str, **_speed)),
    paths.STEP_TIMES: _file(seconds=_times, bytes=dict[str, Above0], parameters=dict[str, int]),
}


def lines_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The lines of a table as JSON has them, None for what is missing."""
    return table.astype(object).where(table.notna(), None).to_dict("records")
