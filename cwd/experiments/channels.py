"""What figures 6 and 8 show as pictures, as numbers: how well a channel marks its class."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.stats import mannwhitneyu
from torch import Tensor

from cwd.config.run import Run
from cwd.data.segmentation import IGNORED
from cwd.evaluation.miou import score_maps
from cwd.experiments.beside import RECIPES, lines_of
from cwd.experiments.workspace import Workspace
from cwd.system import paths


def class_auc(score: Tensor, target: Tensor) -> list[float]:
    """For every class in an image, the area under the ROC curve of its channel.

    That is the probability that the channel is more active at a position of the class than at one
    of another class: 0.5 is chance, 1 a clean mask. The score map is [K, h, w], the target [H, W]
    with 255 ignored; it is brought to the map's size by nearest neighbour.
    """
    small = F.interpolate(target[None, None].float(), size=score.shape[1:], mode="nearest")
    labels = small.long().flatten()
    known = labels != IGNORED
    values, labels = score.flatten(1)[:, known], labels[known]
    areas = []
    for c in labels.unique().tolist():
        ones, others = values[c, labels == c], values[c, labels != c]
        if len(others):
            u = mannwhitneyu(ones, others, method="asymptotic").statistic
            areas.append(float(u) / (len(ones) * len(others)))
    return areas


def mean_auc(scores: Sequence[Tensor], targets: Sequence[Tensor]) -> float:
    """`class_auc`, averaged over images [1, K, h, w] and their classes."""
    pairs = zip(scores, targets, strict=False)  # of the first images only
    areas = [a for score, target in pairs for a in class_auc(score.squeeze(0), target)]
    return sum(areas) / len(areas)


def salience_gaps(student: Tensor, teacher: Tensor) -> tuple[float, float]:
    """How far a student's channels are from the teacher's, where those are salient and elsewhere.

    The mean |log(q / p)| of eq. 3's distributions at T = 1, over the tenth of the positions where
    the teacher's p is largest, and over the others. The score maps are [B, K, h, w].
    """
    log_q, log_p = (F.log_softmax(x.double().flatten(2), dim=2) for x in (student, teacher))
    count = max(1, round(0.1 * log_p.shape[2]))
    salient = torch.zeros_like(log_p, dtype=torch.bool)
    salient.scatter_(2, log_p.topk(count, dim=2).indices, True)
    gap = (log_q - log_p).abs()
    return gap[salient].mean().item(), gap[~salient].mean().item()


def measure_channels(workspace: Workspace) -> pd.DataFrame:
    """Both measures for the teacher and for the students of figure 6, every seed a line.

    Its `recipe` is "teacher" or of `RECIPES`; the teacher has no `salient` and `background`.
    Where a run of these is only recorded, the measures are the recorded ones too.
    """
    val, lines, taught = workspace.data[1], [], None
    if known := workspace.beside(paths.CHANNELS, _seen(workspace)):
        return pd.DataFrame(known["lines"])
    for run in _seen(workspace):
        network = workspace.network(run)
        scores = [score_maps(network, image[None]) for image in islice(val.images, 100)]
        recipe = run.recipe if taught else "teacher"
        line = {"recipe": recipe, "seed": run.seed, "auc": mean_auc(scores, val.targets)}
        if taught:
            gaps = [salience_gaps(mine, its) for mine, its in zip(scores, taught, strict=True)]
            line["salient"], line["background"] = np.mean(gaps, axis=0).tolist()
        taught = taught or scores
        lines.append(line)
    return pd.DataFrame(lines)


def _seen(workspace: Workspace) -> list[Run]:
    profile = workspace.profile
    return [profile.teacher, *(profile.run(r, seed) for r in RECIPES for seed in profile.seeds)]


def record_channels(workspace: Workspace, table: pd.DataFrame) -> Path | None:
    """Write the measures to the profile's `channels.json`, where the claims find them."""
    return workspace.keep(paths.CHANNELS, _seen(workspace), lines=lines_of(table))


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds, by network."""
    shown = table.assign(recipe=table["recipe"].replace("", "student"))
    groups = shown.groupby("recipe", sort=False)[["auc", "salient", "background"]]
    means, sds = groups.mean(), groups.std().add_suffix(" sd")
    order = [name for column in means for name in (column, f"{column} sd")]
    return means.join(sds)[order].rename_axis("network").round(3)
