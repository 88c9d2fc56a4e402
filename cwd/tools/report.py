"""Every table, figure and verdict from recorded results, without training: `make report`."""

import base64
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
from cwd.experiments.records import Records, recorded_profiles
from cwd.experiments.rows_losses import class_comparison
from cwd.experiments.study import Study, every_run, studies_of, study
from cwd.figures import comparisons, complexity, detection
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.system.files import save_figure, write_atomic
from cwd.tools.pages import Section, write_page

INTRODUCTION = (
    'Every number in a column that begins with "our" was measured by the runs named here; every '
    'number in a column that begins with "paper" is printed in the paper, for its networks and '
    "datasets. Nothing was trained to make this page."
)
PICTURES = (
    "From the committed notebooks, profile quick: they need trained networks, which are not "
    "recorded."
)


def report(
    *,
    results: Path = paths.RESULTS,
    output: Path = paths.BUILD / "report",
    notebooks: Path = paths.NOTEBOOKS,
) -> Path:
    """Lay out what is recorded of every profile, and the pictures of the committed notebooks.

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
    sections = [Section("Recorded results", text=[INTRODUCTION])]
    for profile in profiles:
        name, source = profile.name, Records(profile, results=results)
        folder = output / name
        missing = render(source, folder)
        about = {"text": [profile.about], "origins": _origins(source), "missing": missing}
        opened = ("claims", "table2")
        sections.append(Section(name, folder, f"{name}/", opened=opened, **about))
    drawn = {name for section in sections for name in section.figures}
    for name, png in _pictures(notebooks).items():
        if name not in drawn:
            place = output / "pictures" / "figures" / f"{name}.png"
            write_atomic(place, lambda file, png=png: file.write_bytes(png))
    sections.append(Section("Pictures", output / "pictures", "pictures/", text=[PICTURES]))
    return write_page(output / "index.html", sections)


def _origins(source: Records) -> pd.DataFrame:
    """How many runs were measured on what: hardware, versions, commit."""
    lines = []
    for run in every_run(source):
        if found := source.find(run):
            session = found["provenance"]["sessions"][-1]
            machine, versions = session["hardware"], session["versions"]
            commit = (session["commit"] or "unknown")[:12]
            threads = f", {machine['threads']} threads" if machine["device"] == "cpu" else ""
            lines.append(
                {
                    "device": machine["name"] + threads,
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
        if name == "table4":
            _write_table(class_comparison(table.class_iou()), folder, "table4_class_iou")
        _write_table(table.table(), folder, name)
        due = [row for row in table.rows[2:] if row.runs]  # others are cited
        count = sum(row not in _measured(table).rows for row in due)
        if count:
            missing.append(f"{count} of {len(due)} rows of {name}, not measured")
    for name, draw in _figures(studies).items():
        _save(draw, folder, name)
    claims = verdicts(source)
    _write_table(layout(claims), folder, "claims")
    _write_table(layout(claims, run=False), folder, "claims_not_run")
    if claims["unit"].isin(PERCENT).any():
        _save(lambda: comparisons.forest(claims), folder, "claims")
    if costs := source.beside(paths.COSTS):
        grid = pd.DataFrame(costs["grid"]["costs"])
        shares = step_shares(pd.DataFrame(costs["step"]["seconds"]))
        _write_table(pd.DataFrame(costs["slopes"]).set_index("loss"), folder, "loss_slopes")
        _write_table(shares, folder, "step_shares")
        _save(lambda: complexity.growth(grid, "seconds"), folder, "loss_time")
        _save(lambda: complexity.growth(grid, "bytes"), folder, "loss_memory")
        _save(lambda: complexity.shares(shares), folder, "step_shares")
    elif source.profile.student:
        missing.append("the costs of notebook 05, not recorded")
    if speed := source.beside(paths.DETECTION_COSTS):
        table = pd.DataFrame(speed["networks"]).set_index(["detector", "role"])
        _write_table(table, folder, "detector_speed")
    if channels := source.beside(paths.CHANNELS):
        _write_table(summary(pd.DataFrame(channels["lines"])), folder, "channels")
    return missing


def _measured(table: Study) -> Study:
    """The study without the rows that were not measured."""
    found = set(table.results()["row"])
    return replace(table, rows=tuple(row for row in table.rows if row.label in found))


def _figures(studies: dict[str, Study]) -> dict[str, Callable[[], Figure]]:
    """The figures for which at least two rows, and the student alone, were measured."""
    part = {name: _measured(table) for name, table in studies.items()}
    enough = {n: t for n, t in part.items() if len(t.rows) > 3 and t.rows[1].student is None}
    drawn: dict[str, Callable[[], Figure]] = {}
    if {"temperature", "weight"} <= enough.keys():
        names = {"temperature": "temperature", "loss weight": "weight"}
        panels = {t: (enough[n].results(), enough[n].values()) for t, n in names.items()}
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
        data = enough["table6"].source.profile.data.name
        drawn["table6"] = lambda: comparisons.frontier(enough["table6"].table(), data)
    if "table9" in enough:
        table9 = studies["table9"].table()
        drawn["table9_gains"] = lambda: comparisons.gain_panels(table9, "paper, COCO")
        drawn["table9_sizes"] = lambda: detection.by_size(table9)
    if "transformation" in enough:
        whole = studies["transformation"].table()
        if whole["our gain"].notna().any():
            drawn["transformation_gains"] = lambda: comparisons.gain_panels(
                whole, "abstract, full data", 2.7
            )
    return drawn


def _write_table(frame: pd.DataFrame, folder: Path, name: str) -> None:
    write_atomic(folder / "tables" / f"{name}.csv", frame.to_csv)


def _save(draw: Callable[[], Figure], folder: Path, name: str) -> None:
    figure = draw()
    save_figure(figure, folder / "figures" / f"{name}.png")
    plt.close(figure)


def _pictures(notebooks: Path) -> dict[str, bytes]:
    """The figures, as PNG, of the cells of committed notebooks that save one."""
    found = {}
    for path in sorted(notebooks.glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            _, saves, rest = cell.source.partition("save_figure(figure, ")
            outputs = [output.get("data", {}) for output in cell.get("outputs", [])]
            pngs = [data["image/png"] for data in outputs if "image/png" in data]
            for number, png in enumerate(pngs if saves else [], start=1):
                name = rest.split('"')[1].partition("{")[0]
                several = str(number) if len(pngs) > 1 else ""  # a loop saves several
                found[name + several] = base64.b64decode(png)
    return found
