"""What the files of a measured run have to say: of its settings, its scores and their origin.

Only what is read is asked for, since runs of earlier versions lack some of the rest.
"""

from typing import Annotated, Any, NotRequired

from pydantic import Field, FiniteFloat, TypeAdapter
from typing_extensions import TypedDict

Percent = Annotated[FiniteFloat, Field(ge=0, le=100)]
Seconds = Annotated[FiniteFloat, Field(ge=0)]
Digits = Annotated[str, Field(pattern="^[0-9a-f]+$")]


def mapping(**entries: Any) -> Any:
    """The form of a mapping with these entries, and maybe others, by their types."""
    return TypedDict("Mapping", entries)


class Config(TypedDict):
    """Settings of a run, of which `cwd.config.run.key_of` makes its key."""

    schedule: mapping(steps=int, batch=int)
    data: mapping(name=str, split=str)
    teacher: "Config | None"
    network: str
    recipe: str
    init: str
    seed: int


# `cwd.training.provenance.session`
SESSION = mapping(
    commit=Digits | None,
    dirty=bool | None,
    versions=mapping(torch=str, python=str),
    hardware=mapping(device=str, name=str, threads=int, processes=NotRequired[int]),
    seconds=NotRequired[Seconds],
)
# `cwd.training.results.origin`
PROVENANCE = mapping(
    dataset=mapping(train=str, val=str),
    pixels=NotRequired[mapping(train=str, val=str)],
    images=NotRequired[mapping(train=int, val=int)],
    init=NotRequired[dict[str, Any]],
    teacher=NotRequired[dict[str, Any] | None],
    precision=str,
    sha256=NotRequired[Digits],
    seconds=Seconds,
    sessions=Annotated[list[SESSION], Field(min_length=1)],
)
# of each task by its measure, `cwd.evaluation`; None: of what there isn't
_classes = Annotated[dict[str, Percent | None], Field(min_length=1)]
_boxes = {"ap": Percent} | dict.fromkeys(("ap50", "ap75", "ap_s", "ap_m", "ap_l"), Percent | None)
METRICS = {
    "miou": mapping(parameters=int, miou=Percent, macc=Percent, class_iou=_classes),
    "ap": mapping(parameters=int, **_boxes),
    "mask_ap": mapping(parameters=int, mask_ap=Percent, **_boxes),
    "top1": mapping(parameters=int, top1=Percent),
}

CONFIG_FORM, PROVENANCE_FORM = TypeAdapter(Config), TypeAdapter(PROVENANCE)
METRICS_FORMS = {measure: TypeAdapter(form) for measure, form in METRICS.items()}
RECORD_FORMS = {  # all of a run in one file
    measure: TypeAdapter(mapping(run=Config, metrics=form, provenance=PROVENANCE))
    for measure, form in METRICS.items()
}
