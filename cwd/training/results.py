"""What a finished training writes, and what it must have in common with others."""

import math
from dataclasses import asdict
from typing import Any

import pandas as pd
from safetensors.torch import save

from cwd.models.build import count_parameters, whole_tensors
from cwd.models.student_file import described
from cwd.system.errors import CwdError
from cwd.system.files import sha256, write_atomic, write_json
from cwd.training import provenance
from cwd.training.run_folder import CONFIG, HISTORY, METRICS, PROVENANCE, WEIGHTS, RunFolder
from cwd.training.student import Student
from cwd.training.teacher import Teacher


def origin(
    student: Student, parts: dict[str, Any], precision: str, teacher: Teacher | None
) -> dict[str, Any]:
    """What a result depends on beside the run's settings; `parts` are the datasets of a run."""
    return {
        "precision": precision,
        "seed": student.run.seed,
        "dataset": {name: part.checksum for name, part in parts.items()},
        # of detectors, whose checksums are those of annotations
        "pixels": {name: getattr(part, "pixels", "") for name, part in parts.items()},
        "images": {name: len(part) for name, part in parts.items()},
        "init": provenance.first_weights(student.run.init, student.network),
        "teacher": teacher and teacher.record,
    }


def check_origin(student: Student, *others: RunFolder | None) -> None:
    """Refuse other images than the teacher or the student alone had, or first weights than this."""
    for other in others:
        if other is None or other.run.data != student.run.data or not other.finished:
            continue
        known, ours = other.provenance, student.origin
        for name in ("dataset", "pixels", *["init"] * (other.run == student.run.baseline())):
            # runs of earlier versions lack some of it
            if odd := provenance.different(ours[name] | known.get(name, {}), ours[name]):
                part, theirs, now = odd
                what = "first weights" if name == "init" else f"{part} images"
                raise CwdError(
                    f"run {student.run.name}: its {what} have the checksum {now} and those of "
                    f"{other.run.name} had {theirs}: put them back, or delete {other.done} to "
                    "train it again."
                )


def write(student: Student, metrics: dict[str, Any], dataset: Any) -> None:
    """Write what makes a run complete, and give its folder its name; `dataset` has its classes.

    A measure that isn't a number is a `CwdError`.
    """
    run, path, task = student.run, student.path, student.task
    if not math.isfinite(score := metrics[task.measure]):
        raise CwdError(
            f"run {run.name}: its {task.unit} is {score}, so nothing of it was measured on "
            f"{run.data.split}: see that this split has labels."
        )
    student.log.add(student.done, {task.measure: score})
    student.log.close()
    metrics["parameters"] = count_parameters(student.network)
    # a network that is measured as it comes has no steps, and no history but its columns
    history = pd.DataFrame(student.history.rows or {"step": [], "lr": []})
    write_atomic(path / HISTORY, lambda file: history.to_csv(file, index=False))
    weights = whole_tensors(student.network)
    header = described(run, dataset)
    write_atomic(path / WEIGHTS, lambda file: file.write_bytes(save(weights, header)))
    write_json(path / CONFIG, asdict(run))
    known = student.origin | {"sha256": sha256(path / WEIGHTS)}
    known |= {"seconds": student.account(), "sessions": student.sessions}
    write_json(path / PROVENANCE, known)
    write_json(path / METRICS, metrics)
    RunFolder(path.parent, run).complete()
