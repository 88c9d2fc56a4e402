"""Every table, figure and verdict from recorded results, without training: `make report`."""

import base64
import html
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
from matplotlib.figure import Figure

from cwd.experiments.channels import summary
from cwd.experiments.claims.interval import PERCENT
from cwd.experiments.claims.judging import layout, verdicts
from cwd.experiments.loss_costs import step_shares
from cwd.experiments.records import CHANNELS, COSTS, DETECTION_COSTS, Records, recorded_profiles
from cwd.experiments.rows_losses import class_comparison
from cwd.experiments.study import Study, every_run, studies_of, study
from cwd.figures import comparisons, complexity, detection
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.system.files import save_figure, write_atomic, write_text
from cwd.tools import pages

PUBLISHED = "quick"  # the profile whose pictures the committed notebooks carry
# of notebooks 04, 06, A1 and A2, from numbers
DRAWN = (
    "figure4",
    "table4",
    "table5",
    "table6",
    "table9_gains",
    "table9_sizes",
    "transformation_gains",
    "transformations",
)


def report(
    *,
    results: Path = paths.RESULTS,
    output: Path = paths.BUILD / "report",
    notebooks: Path = paths.NOTEBOOKS,
) -> Path:
    """Lay out what is recorded of every profile.

    Args:
        results: folder of recorded results.
        output: where to; one folder a profile is made in it.
        notebooks: folder of the committed notebooks, whose pictures are shown.

    Returns:
        The page, `index.html` in the output's folder.

    Raises:
        CwdError: nothing is recorded, or a file is damaged.
    """
    profiles = recorded_profiles(results)
    if not profiles:
        raise CwdError(
            f"{paths.for_people(results)} holds no results: run `make reproduce`, then "
            "`python -m cwd record`."
        )
    body = ["<h1>Recorded results</h1>", INTRODUCTION]
    for profile in profiles:
        source = Records(profile, results=results)
        folder = output / profile.name
        missing = render(source, folder)
        base = f"{profile.name}/"
        body += [
            f"<h1>{html.escape(profile.name)}</h1><p>{html.escape(profile.about)}</p>",
            "<h2>Measured on</h2>",
            pages.table(origins(source)),
            *(f"<p>Not shown: {html.escape(line)}.</p>" for line in missing),
            pages.tables(folder, opened=("claims", "table2"), base=base),
            pages.figures(folder, base=base),
        ]
    pictures = output / "pictures"
    for name, png in committed_pictures(notebooks).items():
        write_atomic(
            pictures / "figures" / f"{name}.png", lambda file, png=png: file.write_bytes(png)
        )
    body += [
        f"<h1>Pictures</h1><p>From the committed notebooks, profile {PUBLISHED}: they need trained "
        "networks, which are not recorded.</p>",
        pages.figures(pictures, base="pictures/"),
    ]
    page = output / "index.html"
    write_text(page, pages.page("\n".join(body)))
    return page


INTRODUCTION = """<p>Every number in a column that begins with "our" was measured by the runs named
here; every number in a column that begins with "paper" is printed in the paper, for its networks
and datasets. Nothing was trained to make this page.</p>"""


def origins(source: Records) -> pd.DataFrame:
    """How many runs were measured on what: hardware, versions, commit."""
    lines = []
    for run in every_run(source):
        if found := source.find(run):
            session = found["provenance"]["sessions"][-1]
            machine, versions = session["hardware"], session["versions"]
            commit = (session["commit"] or "unknown")[:12]
            lines.append(
                {
                    "device": f"{machine['name']}, {machine['threads']} threads"
                    if machine["device"] == "cpu"
                    else machine["name"],
                    "precision": found["provenance"]["precision"],
                    "torch": versions["torch"],
                    "python": versions["python"],
                    "commit": commit + (" and changes" if session["dirty"] else ""),
                }
            )
    return pd.DataFrame(lines).value_counts(sort=False).rename("runs").reset_index()


def render(source: Records, folder: Path) -> list[str]:
    """Write a profile's tables and figures; returns what could not be, in words."""
    studies = {name: study(name, source) for name in studies_of(source.profile)}
    missing = []
    for name, table in studies.items():
        frame = table.table()
        if name == "table4":
            write_table(class_comparison(table.class_iou()), folder, "table4_class_iou")
        write_table(frame, folder, name)
        due = [row for row in table.rows[2:] if row.runs]  # others are cited
        count = sum(row not in measured(table).rows for row in due)
        if count:
            missing.append(f"{count} of {len(due)} rows of {name}, not measured")
    for name, draw in figures_of({n: measured(s) for n, s in studies.items()}).items():
        save(draw, folder, name)
    claims = verdicts(source)
    write_table(layout(claims), folder, "claims")
    write_table(layout(claims, run=False), folder, "claims_not_run")
    if claims["unit"].isin(PERCENT).any():
        save(lambda: comparisons.forest(claims), folder, "claims")
    if costs := source.beside(COSTS):
        grid = pd.DataFrame(costs["grid"]["costs"])
        shares = step_shares(pd.DataFrame(costs["step"]["seconds"]))
        write_table(pd.DataFrame(costs["slopes"]).set_index("loss"), folder, "loss_slopes")
        write_table(shares, folder, "step_shares")
        save(lambda: complexity.growth(grid, "seconds"), folder, "loss_time")
        save(lambda: complexity.growth(grid, "bytes"), folder, "loss_memory")
        save(lambda: complexity.shares(shares), folder, "step_shares")
    elif source.profile.student:
        missing.append("the costs of notebook 05, not recorded")
    if speed := source.beside(DETECTION_COSTS):
        table = pd.DataFrame(speed["networks"]).set_index(["detector", "role"])
        write_table(table, folder, "detector_speed")
    if channels := source.beside(CHANNELS):
        write_table(summary(pd.DataFrame(channels["lines"])), folder, "channels")
    return missing


def measured(table: Study) -> Study:
    """The study without the rows that were not measured."""
    found = set(table.results()["row"])
    return replace(table, rows=tuple(row for row in table.rows if row.label in found))


def figures_of(studies: dict[str, Study]) -> dict[str, Callable[[], Figure]]:
    """The figures for which at least two rows, and the student alone, were measured."""
    enough = {
        name: table
        for name, table in studies.items()
        if len(table.rows) > 3 and table.rows[1].student is None
    }
    drawn: dict[str, Callable[[], Figure]] = {}
    if {"temperature", "weight"} <= enough.keys():
        panels = {
            "temperature": (enough["temperature"].results(), enough["temperature"].values()),
            "loss weight": (enough["weight"].results(), enough["weight"].values()),
        }
        student = enough["weight"].rows[1].label
        drawn["figure3"] = lambda: comparisons.sweeps(panels, student)
    for name in ("table2", "table3", "table5", "normalisations", "transformations"):
        if name in enough:
            drawn["figure4" if name == "table2" else name] = lambda table=enough[name]: (
                comparisons.gains(table.results(), table.paper_gains())
            )
    if "table4" in enough:
        drawn["table4"] = lambda: comparisons.class_bars(enough["table4"].class_iou().iloc[:, 1:])
    if "table6" in enough:
        table6 = enough["table6"]
        data = table6.source.profile.data.name
        drawn["table6"] = lambda: comparisons.frontier(table6.table(), data)
    if "table9" in enough:
        table9 = replace(enough["table9"], rows=study("table9", enough["table9"].source).rows)
        drawn["table9_gains"] = lambda: comparisons.gain_panels(table9.table(), "paper, COCO")
        drawn["table9_sizes"] = lambda: detection.by_size(table9.table())
    if "transformation" in enough:
        source = enough["transformation"].source
        whole = study("transformation", source).table()
        if whole["our gain"].notna().any():
            drawn["transformation_gains"] = lambda: comparisons.gain_panels(
                whole, "abstract, full data", 2.7
            )
    return drawn


def write_table(frame: pd.DataFrame, folder: Path, name: str) -> None:
    """Write a table to `tables/NAME.csv`."""
    write_atomic(folder / "tables" / f"{name}.csv", frame.to_csv)


def save(draw: Callable[[], Figure], folder: Path, name: str) -> None:
    """Draw a figure and write it to `figures/NAME.png`."""
    figure = draw()
    save_figure(figure, folder / "figures" / f"{name}.png")
    plt.close(figure)


def committed_pictures(notebooks: Path) -> dict[str, bytes]:
    """The figures that need networks, as PNG, from the cells of committed notebooks that save them.

    Those that are drawn from recorded numbers are left out.
    """
    found = {}
    for path in sorted(notebooks.glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            name = re.search(r'save_figure\(figure, f?"(\w+)', cell.source)
            outputs = [output.get("data", {}) for output in cell.get("outputs", [])]
            pngs = [data["image/png"] for data in outputs if "image/png" in data]
            if name and path.stem[:2] not in ("03", "05", "99"):
                for number, png in enumerate(pngs, start=1):  # a loop saves several
                    several = str(number) if len(pngs) > 1 else ""
                    found[name.group(1) + several] = base64.b64decode(png)
    return {name: png for name, png in found.items() if name not in DRAWN}
