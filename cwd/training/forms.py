"""What the files of a measured run have to say: of its settings, its scores and their origin.

Only what is read is asked for, since runs of earlier versions lack some of the rest.
"""

from typing import Annotated, Any, NotRequired

from pydantic import Field, FiniteFloat, TypeAdapter
from typing_extensions import TypedDict

Percent = Annotated[FiniteFloat, Field(ge=0, le=100)]
Seconds = Annotated[FiniteFloat, Field(ge=0)]
Digits = Annotated[str, Field(pattern="^[0-9a-f]+$")]


class _Settings(TypedDict):
    schedule: dict[str, Any]


class _Config(_Settings):  # of which `cwd.config.run.key_of` makes a key
    teacher: _Settings | None


class _Parts(TypedDict):
    train: str
    val: str


class _Hardware(TypedDict):
    device: str
    name: str
    threads: int
    processes: NotRequired[int]


class _Versions(TypedDict):
    torch: str
    python: str


class Session(TypedDict):
    """Where something was measured, see `cwd.training.provenance.session`; how long it took."""

    commit: Digits | None
    dirty: bool | None
    versions: _Versions
    hardware: _Hardware
    seconds: NotRequired[Seconds]


class _Provenance(TypedDict):  # see `cwd.training.results.origin`
    dataset: _Parts
    pixels: NotRequired[_Parts]
    init: NotRequired[dict[str, Any]]
    precision: str
    sha256: NotRequired[Digits]
    seconds: Seconds
    sessions: Annotated[list[Session], Field(min_length=1)]


class _Metrics(TypedDict):
    parameters: int


class _Segmentation(_Metrics):  # see `cwd.evaluation.miou.evaluate`
    miou: Percent
    macc: Percent
    class_iou: Annotated[dict[str, Percent | None], Field(min_length=1)]  # None: not there


class _Boxes(_Metrics):  # see `cwd.evaluation.coco_ap.scores`
    ap: Percent
    ap50: Percent | None
    ap75: Percent | None
    ap_s: Percent | None
    ap_m: Percent | None
    ap_l: Percent | None


class _Masks(_Boxes):
    mask_ap: Percent


class _Classes(_Metrics):  # see `cwd.evaluation.top1.evaluate`
    top1: Percent


CONFIG, PROVENANCE = TypeAdapter(_Config), TypeAdapter(_Provenance)
# by the measure of a task: its metrics, and all of a run in one file
_KINDS = {"miou": _Segmentation, "ap": _Boxes, "mask_ap": _Masks, "top1": _Classes}
METRICS = {measure: TypeAdapter(kind) for measure, kind in _KINDS.items()}
RECORDS = {
    measure: TypeAdapter(
        TypedDict("_Record", {"run": _Config, "metrics": kind, "provenance": _Provenance})
    )
    for measure, kind in _KINDS.items()
}
