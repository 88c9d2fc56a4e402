"""Parameters and multiply-adds of the networks, beside Table 6."""

import pandas as pd

from cwd import paths
from cwd.models import build_network, count_multiply_adds, count_parameters

CITYSCAPES_CLASSES = 19


def network_costs(
    names: tuple[str, ...] = ("PSPNet-R101", "PSPNet-R18", "PSPNet-R18(0.5)"),
) -> pd.DataFrame:
    """Counted and printed costs, for 19 classes and one image of 512x1024 (Table 6).

    Nothing is allocated: the networks are built on the meta device.

    Args:
        names: networks of Table 6.

    Returns:
        Parameters in millions and multiply-adds in units of 10^9, counted and as printed.
    """
    paper = pd.read_csv(paths.PAPER / "table6_cityscapes.csv").drop_duplicates("network")
    paper = paper.set_index("network")
    lines = {}
    for name in names:
        network = build_network(name, CITYSCAPES_CLASSES, device="meta")
        lines[name] = {
            "parameters (M)": round(count_parameters(network) / 1e6, 4),
            "paper's (M)": paper.loc[name, "params_m"],
            "multiply-adds (G)": round(count_multiply_adds(network) / 1e9, 2),
            "paper's (G)": paper.loc[name, "flops_g"],
        }
    return pd.DataFrame(lines).T.rename_axis("network")
