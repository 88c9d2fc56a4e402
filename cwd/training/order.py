"""Which runs come before others, and which are trained together."""

from collections.abc import Iterable
from dataclasses import replace

from cwd.config.run import Run
from cwd.training.tasks import task_of

MOST = 12  # runs in a group: each has a network, its gradients and its momentum in memory


def needed(run: Run) -> tuple[Run, ...]:
    """The runs that have to be finished before a run can begin."""
    return (run.teacher, run.baseline()) if run.teacher else ()


def alike(run: Run) -> tuple:
    """What runs have to share so that their batches, and their teacher's maps, are the same."""
    schedule = replace(run.schedule, checkpoint_every=1)
    return task_of(run.network), run.data, schedule, run.seed, run.teacher


def groups(runs: Iterable[Run]) -> list[list[Run]]:
    """The runs in groups of those that are alike, in the order of their first."""
    found: dict[tuple, list[list[Run]]] = {}
    for run in dict.fromkeys(runs):
        parts = found.setdefault(alike(run), [[]])
        if len(parts[-1]) == MOST:
            parts.append([])
        parts[-1].append(run)
    return [part for parts in found.values() for part in parts]
