"""What the networks cost: parameters and multiply-adds, beside Tables 6 and 9."""

import functools

import pandas as pd

from cwd.data.detection.coco import OBJECT_CLASSES
from cwd.experiments.sections import PAPER_DETECTORS
from cwd.experiments.table import paper
from cwd.models.build import build_network, count_multiply_adds, count_parameters

MAIN = ("PSPNet-R101", "PSPNet-R18", "PSPNet-R18(0.5)")
TABLE_6 = (*MAIN, "PSPNet-MBV2", "Deeplab-R18", "Deeplab-R18(0.5)", "Deeplab-MBV2")


@functools.cache
def costs_of(network: str, num_classes: int = 19) -> tuple[float, float]:
    """Parameters in millions, and multiply-adds in units of 10^9 for an image of 512x1024."""
    built = build_network(network, num_classes, device="meta")
    return count_parameters(built) / 1e6, count_multiply_adds(built) / 1e9


def network_costs(names: tuple[str, ...] = MAIN) -> pd.DataFrame:
    """Costs of networks of Table 6, counted as in `costs_of` and printed."""
    printed, lines = paper("table6_cityscapes").groupby("network").first(), {}
    for name in names:
        parameters, multiply_adds = costs_of(name)
        lines[name] = {
            "parameters (M)": round(parameters, 4),
            "paper's (M)": printed.loc[name, "params_m"],
            "multiply-adds (G)": round(multiply_adds, 2),
            "paper's (G)": printed.loc[name, "flops_g"],
        }
    return pd.DataFrame(lines).T.rename_axis("network")


def parameter_table() -> pd.DataFrame:
    """Parameters of Table 9's students in millions: counted here for 80 classes, and printed.

    "trainable" is without the stem and first stage, which stay as ImageNet left them. Only
    RepPoints then has the printed number; no public implementation has the other two.
    """
    printed, lines = paper("table9_detection").groupby("detector").first(), {}
    for name, kind in PAPER_DETECTORS.items():
        built = build_network(f"{kind}-R50", OBJECT_CLASSES["coco"], device="meta")
        built.backbone.freeze()
        trainable = sum(p.numel() for p in built.parameters() if p.requires_grad)
        lines[name] = {
            "counted (M)": round(count_parameters(built) / 1e6, 2),
            "trainable (M)": round(trainable / 1e6, 2),
            "paper's (M)": printed.loc[name, "params_m"],
        }
    return pd.DataFrame(lines).T.rename_axis("detector")
