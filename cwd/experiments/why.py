"""Why a loss gains or doesn't: on which classes, and how hard it pulls at the student."""

from collections.abc import Iterable, Iterator

import pandas as pd
import torch
from torch import nn

from cwd.config.run import Run
from cwd.experiments.records import Comparable
from cwd.experiments.study import Study, study
from cwd.experiments.workspace import Workspace
from cwd.recipes.distiller import Distiller
from cwd.recipes.parse import parse_recipe
from cwd.training.tasks.segmentation import SEGMENTATION
from cwd.training.teacher import Teacher

LEARNT = 5.0  # percent of IoU that a class has where the student alone has learnt it
# one term each; the paper's readings of PI and CW_s beside the released ones
TERMS = ("MIMIC_f", "MIMIC_s", "AT_f", "AT_s", "PI_f", "PI", "PI(norm=released)", "LOCAL_f",
         "LOCAL_s", "PA_f", "PA_s", "IFV_f", "IFV_s", "HO", "CW_f", "CW_s",
         "CW_s(T=1, weight=35)")  # fmt: skip


def investigated(workspace: Workspace, name: str) -> Study | None:
    """One of the investigations that need runs of their own, trained; None where there are none.

    A profile has them or not, since they are half as many runs as all tables of the paper.
    """
    if not workspace.profile.investigations:
        print(f"not part of profile {workspace.profile.name}: it has no investigations: true")
        return None
    found = study(name, workspace).train()
    print(found.sources())
    return found


def compared_rows(table: Study, one: str, other: str) -> str:
    """Two rows of a table in a sentence: their difference in mIoU, seed by seed."""
    miou = table.results().pivot(index="seed", columns="row", values="miou")
    apart = (miou[one] - miou[other]).dropna()
    if apart.empty:
        return f"{one} and {other} weren't both measured."
    spread = f" ± {apart.std():.2f}" if len(apart) > 1 else ""
    which = f"{one} has {apart.mean():+.2f}{spread} mIoU beside {other}"
    return f"{which} ({len(apart)} seed{'s' * (len(apart) > 1)})."


def extremes(table: Study) -> str:
    """Which of a table's measured rows gains most over its student, and which least; a sentence."""
    results = table.results()
    by_seed = results.pivot(index="seed", columns="row", values=results.columns[2])
    known = [row for row in table.rows if {row.label, row.student} <= set(by_seed)]
    gains = {row.label: (by_seed[row.label] - by_seed[row.student]).mean() for row in known}
    if not gains:
        return "no row was measured."
    most, least = max(gains, key=gains.get), min(gains, key=gains.get)
    above = sum(gain > 0 for gain in gains.values())
    return (
        f"{above} of {len(gains)} rows gain over the student alone; {most} gains most, "
        f"{gains[most]:+.2f}, {least} least, {gains[least]:+.2f}."
    )


def widest(by_seed: pd.DataFrame) -> str:
    """Which row [row, seed] differs most from seed to seed; a sentence."""
    spread = by_seed.max(axis=1) - by_seed.min(axis=1)
    low, high = by_seed.loc[spread.idxmax()].agg(["min", "max"])
    return f"{spread.idxmax()} differs most from seed to seed, {low:.2f} to {high:.2f}."


def winners(table: pd.DataFrame) -> str:
    """Which method gains most for how many networks, or tasks, of a table; a sentence."""
    gains = table["our gain"].dropna()
    best = gains.groupby(level=gains.index.names[:-1]).idxmax().map(lambda row: row[-1])
    said = ", ".join(f"{name} in {count}" for name, count in best.value_counts().items())
    return f"Largest gain: {said} of {len(best)}." if said else "No gain was measured."


def split_gains(table: Study) -> pd.DataFrame:
    """A table's gains in IoU over the student alone, over classes that it had learnt and others.

    A class counts as learnt where the student alone of the same seed has more than `LEARNT`. The
    two columns add up, weighted by their numbers of classes, to the gain in mIoU; means over seeds.
    """
    alone, lines = {run.seed: run for run in table.rows[1].runs}, {}
    known = Comparable(table.source)
    for row in table.rows[2:]:
        parts = []
        for run in row.runs:
            both = [known.metrics(each)["class_iou"] for each in (alone[run.seed], run)]
            before, after = (pd.Series(iou, dtype=float) for iou in both)
            learnt = before > LEARNT
            gain = after - before
            part = {"learnt alone": gain[learnt].mean(), "at zero alone": gain[~learnt].mean()}
            counts = {"classes learnt alone": learnt.sum(), "with it": (after > LEARNT).sum()}
            parts.append(part | counts)
        lines[row.label] = pd.DataFrame(parts).mean()
    return pd.DataFrame(lines).T.rename_axis("recipe").round(1)


def gradient_ratios(workspace: Workspace, recipes: Iterable[str] = TERMS) -> pd.DataFrame:
    """Each term's gradient on the student, as a multiple of the cross-entropy's: norms' ratio.

    On the first batch, for the student alone before its first step and after its last, with random
    alignments and critic; seed 0's networks of the profile.
    """
    profile, (data, _) = workspace.profile, workspace.data
    run = profile.run("", profile.seeds[0])
    teacher = Teacher(workspace.train(profile.teacher), data.num_classes, torch.device("cpu"))
    batch, target = SEGMENTATION.batches(
        data, run.schedule, run.seed, torch.device("cpu"), slice(None)
    )(0)
    torch.manual_seed(run.seed)
    start = SEGMENTATION.student(run, data.num_classes)
    networks = {"at the start": start, "at the end": workspace.network(run).train()}
    taught = teacher(batch)
    table = {}
    for when, network in networks.items():
        norms = dict(_norms(run, network, teacher.network, recipes, (batch, target, taught)))
        table[when] = pd.Series(norms) / norms["CE"]
    return pd.DataFrame(table).drop("CE").rename_axis("term").round(3)


def _norms(
    run: Run, network: nn.Module, teacher: nn.Module, recipes: Iterable[str], seen: tuple
) -> Iterator[tuple[str, float]]:
    batch, target, taught = seen
    out = network(batch)
    terms = {"CE": SEGMENTATION.losses(out, target, run.schedule)["CE"]}
    size = tuple(out.score.shape[2:])
    for recipe in recipes:
        torch.manual_seed(run.seed)
        distiller = Distiller(parse_recipe(recipe), network, teacher, size)
        (terms[recipe],) = distiller(out, taught, target, batch).values()
    for name, term in terms.items():
        parts = torch.autograd.grad(
            term, network.parameters(), retain_graph=True, allow_unused=True
        )
        yield name, sum(part.square().sum() for part in parts if part is not None).sqrt().item()
