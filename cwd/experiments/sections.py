"""The sections of a profile's YAML file: networks, pairs of them, seeds."""

from dataclasses import dataclass, field
from typing import Any

from cwd.config import pairs
from cwd.config.pairs import Detection, Pair, Student, Transformation
from cwd.config.run import Data, Run, from_mapping
from cwd.models.weights import is_public
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.training.tasks import task_of


@dataclass(frozen=True)
class Part:
    """A network's place in a profile: the teacher's or a student's."""

    network: str
    init: str = "random"
    schedule: dict[str, Any] = field(default_factory=dict)  # what differs from the profile's
    stands_for: str = ""  # the paper's network that it is a miniature of; itself if empty


def read_detection(text: Any, where: str) -> Detection:
    """The detectors of a profile; raises as `load_profile`."""
    keys = {"data", "schedule", "pairs", "seeds"}
    listed = mapping(text, where).get("pairs")
    if set(text) != keys or not isinstance(listed, list) or not listed:
        raise CwdError(
            f"{where}: found {', '.join(map(str, text))}; write {', '.join(sorted(keys))}, and "
            "under pairs a list of teachers and students."
        )
    data = from_mapping(Data, text["data"], f"{where}: data")
    read = []
    for pair in listed:
        if set(mapping(pair, f"{where}: pairs")) != {"teacher", "student"}:
            raise CwdError(f"{where}: pairs has {pair!r}, expected a teacher and a student.")
        found = read_pair(pair, text["schedule"], data, pairs.PAPER_DETECTORS, where)
        if found.name in [known.name for known in read]:
            raise CwdError(f"{where}: has two pairs of {found.name}s: leave one of them out.")
        read.append(found)
    return Detection(tuple(read), check_seeds(text["seeds"], where))


def read_transformation(text: Any, where: str) -> Transformation:
    """The second paper's networks of a profile; raises as `load_profile`."""
    tasks = {"instance": pairs.MASK_DETECTORS, "classification": pairs.CLASSIFIERS}
    if "seeds" not in mapping(text, where) or not set(text) <= {"seeds", *tasks}:
        raise CwdError(
            f"{where}: found {', '.join(map(str, text))}; write seeds, and if there are such "
            f"networks {' and '.join(tasks)}."
        )
    found = {}
    for task, kinds in tasks.items():
        if task in text:
            part, place = text[task], f"{where}: {task}"
            if set(mapping(part, place)) != {"data", "schedule", "teacher", "student"}:
                raise CwdError(
                    f"{place}: found {', '.join(map(str, part))}; write data, schedule, teacher "
                    "and student."
                )
            data = from_mapping(Data, part["data"], f"{place}: data")
            found[task] = read_pair(part, part["schedule"], data, kinds, place)
    return Transformation(check_seeds(text["seeds"], where), **found)


def read_pair(
    pair: dict[str, Any], schedule: Any, data: Data, kinds: dict[str, str], where: str
) -> Pair:
    """A teacher and a student of one kind; raises as `load_profile`.

    Args:
        pair: has both.
        schedule: what they have in common.
        data: their images.
        kinds: the papers' names and ours of what they may be.
        where: for the errors.
    """
    roles = ("teacher", "student")
    networks = [from_mapping(Part, pair[role], f"{where}: {role}").network for role in roles]
    both = {network.partition("-")[0] for network in networks}
    names = [name for name, kind in kinds.items() if both == {kind}]
    if not names:
        raise CwdError(
            f"{where}: {' and '.join(networks)} are no pair of one kind: use two of "
            f"{' or of '.join(kinds.values())}."
        )
    runs = [read_part(pair[role], schedule, data, f"{where}: {role}").run for role in roles]
    return Pair(names[0], *runs)


def read_part(value: Any, schedule: Any, data: Data, where: str) -> Student:
    """A network of a profile; raises as `load_profile`."""
    part = from_mapping(Part, value, where)
    settings = {**mapping(schedule, f"{where}: schedule"), **part.schedule}
    task = task_of(part.network)
    task.build(part.network, 2, device="meta")  # an unknown name is an error here
    init = part.init
    if init != "random" and not is_public(init):
        init = paths.for_people(paths.below_root(init))
    run = Run(data, part.network, from_mapping(task.schedule, settings, f"{where}: schedule"), init)
    if not run.schedule.steps and init == "random":
        raise CwdError(
            f"{where}: {part.network} has 0 steps and random weights: give it steps, or init the "
            "weights that shall be measured as they come."
        )
    return Student(part.stands_for or part.network, run)


def mapping(value: Any, where: str) -> dict[str, Any]:
    """`value`, if it is a mapping; raises CwdError otherwise."""
    if not isinstance(value, dict):
        raise CwdError(f"{where}: found {value!r}, expected a mapping of settings.")
    return value


def check_seeds(value: Any, where: str) -> tuple[int, ...]:
    """Seeds from a list, or from a text such as "0,1,2".

    Raises:
        CwdError: there is none, one stands twice, or one is no whole number from 0 on.
    """
    items = value.split(",") if isinstance(value, str) else value
    try:
        seeds = tuple(int(str(item)) for item in items)
        if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
            raise ValueError
    except (TypeError, ValueError):
        raise CwdError(
            f"{where}: seeds {value!r} must be different whole numbers from 0 on, such as 0,1,2."
        ) from None
    return seeds
