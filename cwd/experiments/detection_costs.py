"""Parameters and speed of the detectors, beside Table 9's."""

import functools
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cwd.config.run import Run
from cwd.data.detection.batches import prepare, stacked
from cwd.data.detection.coco import OBJECT_CLASSES
from cwd.experiments.records import DETECTION_COSTS
from cwd.experiments.rows_detection import printed
from cwd.experiments.sections import PAPER_DETECTORS
from cwd.experiments.workspace import Workspace
from cwd.models.detection.detectors import build_detector
from cwd.models.segmentation import count_parameters
from cwd.system.device import pick_device
from cwd.system.files import write_json
from cwd.system.timing import laps
from cwd.training import provenance

IMAGES, REPEATS = 4, 5


@functools.cache
def parameters_of(
    detector: str, num_classes: int = OBJECT_CLASSES["coco"], *, trainable: bool = False
) -> float:
    """Parameters in millions; nothing is allocated for them.

    Args:
        detector: its name.
        num_classes: K.
        trainable: whether to leave out what a detector from ImageNet weights doesn't train.
    """
    built = build_detector(detector, num_classes, device="meta")
    built.backbone.freeze()
    counted = [p.numel() for p in built.parameters() if p.requires_grad or not trainable]
    return sum(counted) / 1e6


def parameter_table() -> pd.DataFrame:
    """Parameters of the paper's students in millions: counted here for 80 classes, and printed.

    "trainable" is without the stem and first stage, which stay as ImageNet left them. Only
    RepPoints then has the printed number; no public implementation has the other two.
    """
    paper = printed().drop_duplicates("detector").set_index("detector")["params_m"]
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
    """Images a second of the profile's trained detectors, one image at a time, and parameters.

    Resizing and normalising are left out, as the batch is made before the clock starts; finding
    the detections in what the network gives is not. Distillation changes neither column.

    Returns:
        A line a network: parameters in millions, frames a second on this machine, and the paper's
        of its students (800x1333 on one GPU, which it doesn't name).
    """
    paper = printed().drop_duplicates("detector").set_index("detector")
    lines = []
    for pair in workspace.detection.pairs:
        for role, run in (("teacher", pair.teacher), ("student", pair.student)):
            network = workspace.network(run)
            known = paper.loc[pair.name] if role == "student" else {}
            lines.append(
                {
                    "detector": pair.name,
                    "role": role,
                    "network": run.network,
                    "parameters (M)": round(count_parameters(network) / 1e6, 3),
                    "frames/s": round(frames(network, run, workspace), 1),
                    "paper's parameters (M)": known.get("params_m"),
                    "paper's frames/s": known.get("fps"),
                }
            )
    return pd.DataFrame(lines).set_index(["detector", "role"])


def frames(network: torch.nn.Module, run: Run, workspace: Workspace) -> float:
    """Images a second, the median of a few rounds over a few images."""
    device = torch.device(pick_device(workspace.device))
    dataset, schedule = workspace.images(run)[1], run.schedule
    images = [
        prepare(dataset[index].image, schedule.short, schedule.long)[0]
        for index in range(min(IMAGES, len(dataset)))
    ]
    network = network.to(device)
    calls = [
        functools.partial(network.detect, stacked([image.to(device)]), [tuple(image.shape[-2:])])
        for image in images
    ]
    rounds = pd.DataFrame(laps(calls, device.type, REPEATS, warm=1))  # image by round
    return len(images) / rounds.sum().median()


def record_speed(workspace: Workspace, table: pd.DataFrame) -> Path:
    """Write `speed_table` with hardware and versions to the profile's `detection_costs.json`."""
    device = torch.device(pick_device(workspace.device))
    value: dict[str, Any] = {
        "profile": workspace.profile.name,
        "provenance": provenance.session(device),
        "networks": table.reset_index().astype(object).where(table.reset_index().notna(), None)
        .to_dict("records"),
    }  # fmt: skip
    path = workspace.output / DETECTION_COSTS
    write_json(path, value)
    return path
