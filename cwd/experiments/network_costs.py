"""What the networks cost: parameters and multiply-adds, beside Tables 6 and 9."""

import functools

import pandas as pd

from cwd.data.detection.coco import COCO_LAYOUTS
from cwd.experiments.sections import PAPER_DETECTORS
from cwd.models.build import build_network, count_multiply_adds, count_parameters
from cwd.system import paths

CITYSCAPES_CLASSES = 19
MAIN = ("PSPNet-R101", "PSPNet-R18", "PSPNet-R18(0.5)")
TABLE_6 = (*MAIN, "PSPNet-MBV2", "Deeplab-R18", "Deeplab-R18(0.5)", "Deeplab-MBV2")


def printed_costs(table: str, index: str) -> pd.DataFrame:
    """What a table of the paper prints, the first line of each network or detector."""
    return pd.read_csv(paths.PAPER / f"{table}.csv").drop_duplicates(index).set_index(index)


@functools.cache
def costs_of(network: str, num_classes: int = CITYSCAPES_CLASSES) -> tuple[float, float]:
    """Parameters in millions, and multiply-adds in units of 10^9 for an image of 512x1024."""
    built = build_network(network, num_classes, device="meta")
    return count_parameters(built) / 1e6, count_multiply_adds(built) / 1e9


def network_costs(names: tuple[str, ...] = MAIN) -> pd.DataFrame:
    """Costs of networks of Table 6, counted as in `costs_of` and printed."""
    paper = printed_costs("table6_cityscapes", "network")
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
    detector: str, num_classes: int = COCO_LAYOUTS["coco"].num_classes, *, trainable: bool = False
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
    paper = printed_costs("table9_detection", "detector")["params_m"]
    lines = {
        name: {
            "counted (M)": round(parameters_of(f"{kind}-R50"), 2),
            "trainable (M)": round(parameters_of(f"{kind}-R50", trainable=True), 2),
            "paper's (M)": paper[name],
        }
        for name, kind in PAPER_DETECTORS.items()
    }
    return pd.DataFrame(lines).T.rename_axis("detector")
