"""Parameters and multiply-adds of the networks, beside Table 6."""

import functools

import pandas as pd

from cwd.models.build import build_network, count_multiply_adds, count_parameters
from cwd.system import paths

CITYSCAPES_CLASSES = 19
MAIN = ("PSPNet-R101", "PSPNet-R18", "PSPNet-R18(0.5)")
TABLE_6 = (*MAIN, "PSPNet-MBV2", "Deeplab-R18", "Deeplab-R18(0.5)", "Deeplab-MBV2")


@functools.cache
def costs_of(network: str, num_classes: int = CITYSCAPES_CLASSES) -> tuple[float, float]:
    """Parameters in millions, and multiply-adds in units of 10^9 for an image of 512x1024.

    Nothing is allocated: the network is built on the meta device.
    """
    built = build_network(network, num_classes, device="meta")
    return count_parameters(built) / 1e6, count_multiply_adds(built) / 1e9


def network_costs(names: tuple[str, ...] = MAIN) -> pd.DataFrame:
    """Counted and printed costs, for 19 classes and one image of 512x1024 (Table 6).

    Args:
        names: networks of Table 6.

    Returns:
        Parameters in millions and multiply-adds in units of 10^9, counted and as printed.
    """
    paper = pd.read_csv(paths.PAPER / "table6_cityscapes.csv").drop_duplicates("network")
    paper = paper.set_index("network")
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
