"""What the networks cost: parameters, multiply-adds and speed, beside Tables 6 and 9."""

import functools
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from cwd.config.run import Run
from cwd.data.detection.batches import prepare, stacked
from cwd.data.detection.coco import OBJECT_CLASSES
from cwd.experiments.sections import PAPER_DETECTORS
from cwd.experiments.workspace import Workspace
from cwd.models.build import build_network, count_multiply_adds, count_parameters
from cwd.system import paths
from cwd.system.device import pick_device
from cwd.system.files import write_json
from cwd.system.timing import laps
from cwd.training import provenance

CITYSCAPES_CLASSES = 19
MAIN = ("PSPNet-R101", "PSPNet-R18", "PSPNet-R18(0.5)")
TABLE_6 = (*MAIN, "PSPNet-MBV2", "Deeplab-R18", "Deeplab-R18(0.5)", "Deeplab-MBV2")
IMAGES, REPEATS = 4, 5  # of which the speed of a detector is a median


@functools.cache
def costs_of(network: str, num_classes: int = CITYSCAPES_CLASSES) -> tuple[float, float]:
    """Parameters in millions, and multiply-adds in units of 10^9 for an image of 512x1024."""
    built = build_network(network, num_classes, device="meta")
    return count_parameters(built) / 1e6, count_multiply_adds(built) / 1e9


def network_costs(names: tuple[str, ...] = MAIN) -> pd.DataFrame:
    """Costs of networks of Table 6, counted as in `costs_of` and printed."""
    paper = _printed("table6_cityscapes", "network")
    lines = {}
    for name in names:
        parameters, multiply_adds = costs_of(name)
        lines[name] = {
            "parameters (M)": round(parameters, 4),
            "paper's (M)": paper.loc[name, "params_m"],
            "multiply-adds (G)": round(multiply_adds, 2),
            "paper's (G)": paper.loc[name, "flops_g"],
        }
    return pd.DataFrame(lines).T.rename_axis("network")


@functools.cache
def parameters_of(
    detector: str, num_classes: int = OBJECT_CLASSES["coco"], *, trainable: bool = False
) -> float:
    """A detector's parameters in millions, maybe without those that stay as ImageNet left them."""
    built = build_network(detector, num_classes, device="meta")
    built.backbone.freeze()
    counted = [p.numel() for p in built.parameters() if p.requires_grad or not trainable]
    return sum(counted) / 1e6


def parameter_table() -> pd.DataFrame:
    """Parameters of Table 9's students in millions: counted here for 80 classes, and printed.

    "trainable" is without the stem and first stage, which stay as ImageNet left them. Only
    RepPoints then has the printed number; no public implementation has the other two.
    """
    paper = _printed("table9_detection", "detector")["params_m"]
    lines = {
        name: {
            "counted (M)": round(parameters_of(f"{kind}-R50"), 2),
            "trainable (M)": round(parameters_of(f"{kind}-R50", trainable=True), 2),
            "paper's (M)": paper[name],
        }
        for name, kind in PAPER_DETECTORS.items()
    }
    return pd.DataFrame(lines).T.rename_axis("detector")


def speed_table(workspace: Workspace) -> pd.DataFrame:
    """Parameters of the profile's trained detectors, and images a second, one image at a time.

    Resizing and normalising are left out, as the batch is made before the clock starts; finding
    the detections in what the network gives is not. Distillation changes neither column. The
    paper's are of its students, at 800x1333 on one GPU, which it doesn't name.
    """
    paper = _printed("table9_detection", "detector")
    lines = {}
    for pair in workspace.detection.pairs:
        for role, run in (("teacher", pair.teacher), ("student", pair.student)):
            network = workspace.network(run)
            known = paper.loc[pair.name] if role == "student" else {}
            lines[pair.name, role] = {
                "network": run.network,
                "parameters (M)": round(count_parameters(network) / 1e6, 3),
                "frames/s": round(_frames(network, run, workspace), 1),
                "paper's parameters (M)": known.get("params_m"),
                "paper's frames/s": known.get("fps"),
            }
    table = pd.DataFrame(list(lines.values()), pd.MultiIndex.from_tuples(lines))
    return table.rename_axis(["detector", "role"])


def record_speed(workspace: Workspace, table: pd.DataFrame) -> Path:
    """Write `speed_table` with hardware and versions to the profile's `detection_costs.json`."""
    lines = table.reset_index().astype(object)
    value = {
        "profile": workspace.profile.name,
        "provenance": provenance.session(torch.device(pick_device(workspace.device))),
        "networks": lines.where(lines.notna(), None).to_dict("records"),
    }
    path = workspace.output / paths.DETECTION_COSTS
    write_json(path, value)
    return path


def _printed(table: str, index: str) -> pd.DataFrame:
    return pd.read_csv(paths.PAPER / f"{table}.csv").drop_duplicates(index).set_index(index)


def _frames(network: nn.Module, run: Run, workspace: Workspace) -> float:
    device = pick_device(workspace.device)
    dataset, schedule = workspace.images(run)[1], run.schedule
    network, calls = network.to(device), []
    for index in range(min(IMAGES, len(dataset))):
        image = prepare(dataset[index].image, schedule.short, schedule.long)[0]
        batch, size = stacked([image.to(device)]), tuple(image.shape[-2:])
        calls.append(functools.partial(network.detect, batch, [size]))
    rounds = pd.DataFrame(laps(calls, device, REPEATS, warm=1))  # image by round
    return len(calls) / rounds.sum().median()
