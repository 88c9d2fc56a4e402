"""Every table, figure and verdict from recorded results, without training: `make report`."""

import base64
import itertools
from collections.abc import Iterator
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
from cwd.tools.pages import section, write_page
from cwd.training.provenance import in_words

INTRODUCTION = (
    'Every number in a column that begins with "our" was measured by the runs named here; every '
    'number in a column that begins with "paper" is printed in the paper, for its networks and '
    "datasets. Nothing was trained to make this page."
)
PICTURES = (
    "From the committed notebooks, profile quick: they need trained networks, which are not "
    "recorded."
)


def report(*, results: Path = paths.RESULTS, output: Path = paths.BUILD / "report") -> Path:
    """Lay out what is recorded of every profile, and the pictures of the committed notebooks.

    Returns the page, `index.html` in the output's folder. It is a `CwdError` if nothing is recorded
    or a file is damaged.
    """
    profiles = recorded_profiles(results)
    if not profiles:
        raise CwdError(
            f"{paths.for_people(results)} holds no results: run `make reproduce`, then "
            "`python -m cwd record`."
        )
    sections = [{"title": "Recorded results", "text": [INTRODUCTION]}]
    for profile in profiles:
        name, source = profile.name, Records(profile, results=results)
        missing = render(source, output / name)
        about = {"text": [profile.about], "origins": _origins(source), "missing": missing}
        opened = ("claims", "table2")
        sections.append(section(name, output / name, f"{name}/", opened=opened, **about))
    drawn = {name for shown in sections for name in shown.get("figures", ())}
    for name, png in _pictures():
        if name not in drawn:
            place = output / "pictures" / "figures" / f"{name}.png"
            write_atomic(place, lambda file, png=png: file.write_bytes(png))
    sections.append(section("Pictures", output / "pictures", "pictures/", text=[PICTURES]))
    return write_page(output / "index.html", sections)


def _origins(source: Records) -> pd.DataFrame:
    lines = []
    for found in filter(None, map(source.find, every_run(source))):
        session = found["provenance"]["sessions"][-1]
        changes = " and changes" if session["dirty"] else ""
        line = {
            "device": in_words(session["hardware"]),
            "precision": found["provenance"]["precision"],
            "torch": session["versions"]["torch"],
            "python": session["versions"]["python"],
            "commit": (session["commit"] or "unknown")[:12] + changes,
        }
        lines.append(line)
    return pd.DataFrame(lines).value_counts(sort=False).rename("runs").reset_index()


def render(source: Records, folder: Path) -> list[str]:
    """Write a profile's tables and figures; returns what could not be, in words."""
    missing, studies = [], {name: study(name, source) for name in studies_of(source.profile)}
    tables, measured = {name: table.table() for name, table in studies.items()}, {}
    for name, table in studies.items():
        known = set(table.results()["row"])
        rows = tuple(row for row in table.rows if row.label in known)
        measured[name] = replace(table, rows=rows)
        due = [row for row in table.rows[2:] if row.runs]  # others are cited
        if count := sum(row not in rows for row in due):
            missing.append(f"{count} of {len(due)} rows of {name}, not measured")
    claims = verdicts(source)
    tables |= {"claims": layout(claims), "claims_not_run": layout(claims, run=False)}
    if table4 := studies.get("table4"):
        tables["table4_class_iou"] = class_comparison(table4.class_iou())
    if speed := source.beside(paths.DETECTION_COSTS):
        networks = pd.DataFrame(speed["networks"])
        tables["detector_speed"] = networks.set_index(["detector", "role"])
    if channels := source.beside(paths.CHANNELS):
        tables["channels"] = summary(pd.DataFrame(channels["lines"]))
    figures = {}
    if costs := source.beside(paths.COSTS):
        tables["loss_slopes"] = pd.DataFrame(costs["slopes"]).set_index("loss")
        tables["step_shares"] = step_shares(pd.DataFrame(costs["step"]["seconds"]))
        grid = pd.DataFrame(costs["grid"]["costs"])
        figures["loss_time"] = complexity.growth(grid, "seconds")
        figures["loss_memory"] = complexity.growth(grid, "bytes")
        figures["step_shares"] = complexity.shares(tables["step_shares"])
    elif source.profile.student:
        missing.append("the costs of notebook 05, not recorded")
    for name, frame in tables.items():
        write_atomic(folder / "tables" / f"{name}.csv", frame.to_csv)
    for name, figure in itertools.chain(figures.items(), _figures(measured, tables, claims)):
        save_figure(figure, folder / "figures" / f"{name}.png")
        plt.close(figure)
    return missing


def _figures(
    measured: dict[str, Study], tables: dict[str, pd.DataFrame], claims: pd.DataFrame
) -> Iterator[tuple[str, Figure]]:
    """Figures by name; of a table, if two rows at least and the student alone were measured."""
    enough = {n: t for n, t in measured.items() if len(t.rows) > 3 and t.rows[1].student is None}
    if {"temperature", "weight"} <= enough.keys():
        names = {"temperature": "temperature", "loss weight": "weight"}
        panels = {t: (enough[n].results(), enough[n].values()) for t, n in names.items()}
        yield "figure3", comparisons.sweeps(panels, enough["weight"].rows[1].label)
    for name in ("table2", "table3", "table5", "normalisations", "transformations"):
        if table := enough.get(name):
            figure = comparisons.gains(table.results(), table.paper_gains())
            yield "figure4" if name == "table2" else name, figure
    if table := enough.get("table4"):
        yield "table4", comparisons.class_bars(table.class_iou().iloc[:, 1:])
    if table := enough.get("table6"):
        yield "table6", comparisons.frontier(table.table(), table.source.profile.data.name)
    if "table9" in enough:
        yield "table9_gains", comparisons.gain_panels(tables["table9"], "paper, COCO")
        yield "table9_sizes", detection.by_size(tables["table9"])
    if "transformation" in enough and tables["transformation"]["our gain"].notna().any():
        abstract = comparisons.gain_panels(tables["transformation"], "abstract, full data", 2.7)
        yield "transformation_gains", abstract
    if claims["unit"].isin(PERCENT).any():
        yield "claims", comparisons.forest(claims)


def _pictures() -> Iterator[tuple[str, bytes]]:
    """The figures, as PNG, of the cells of committed notebooks that save one, with their names."""
    for path in sorted(paths.NOTEBOOKS.glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            _, saves, rest = cell.source.partition("save_figure(figure, ")
            outputs = [output.get("data", {}) for output in cell.get("outputs", [])]
            pngs = [data["image/png"] for data in outputs if "image/png" in data]
            for number, png in enumerate(pngs if saves else [], start=1):
                name = rest.split('"')[1].partition("{")[0]
                several = str(number) if len(pngs) > 1 else ""  # a loop saves several
                yield name + several, base64.b64decode(png)
