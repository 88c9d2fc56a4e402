"""Every table, figure and verdict from recorded results, without training: `make report`."""

from collections.abc import Iterator
from dataclasses import replace
from html import escape
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from cwd.experiments.channels import summary
from cwd.experiments.claims.interval import PERCENT
from cwd.experiments.claims.judging import layout, side_by_side, verdicts
from cwd.experiments.loss_costs import step_shares
from cwd.experiments.records import Records, recorded_profiles
from cwd.experiments.rows_losses import class_comparison
from cwd.experiments.study import TABLES, Study, every_run, studies_of, study
from cwd.experiments.why import extremes
from cwd.figures import comparisons, complexity, detection
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.system.files import save_figure, write_atomic
from cwd.tools.book import Book, Page, pictured, tabled
from cwd.tools.front import front
from cwd.tools.reproduce import find_notebooks, pages_of
from cwd.training.provenance import in_words

CAPTIONS = {  # of what isn't a study's table, and of figures that show something else than theirs
    "claims": "The papers' claims: difference, 95 % interval and verdict",
    "claims_not_run": "Claims that were not run, and what they need",
    "table4_class_iou": "Table 4, class by class: IoU in percent, ours beside the paper's",
    "channels": "How well a channel marks its class, and how far it is from the teacher's",
    "detector_speed": "What the detectors cost",
    "loss_slopes": "How the cost of a loss grows: exponents, as predicted and as fitted",
    "loss_time": "How the time of a loss grows",
    "loss_memory": "How the memory of a loss grows",
    "step_shares": "What a loss takes of a training step",
    "figure3": "Figure 3. Temperature and weight of CW; the band is the student alone",
    "table9_sizes": "AP of small, medium and large objects",
}


def report(*, results: Path = paths.RESULTS, output: Path = paths.BUILD / "report") -> Path:
    """Lay out what is recorded of every profile, and the committed notebooks, as a site.

    Returns the first page, `index.html` in the output's folder. It is a `CwdError` if nothing is
    recorded or a file is damaged.
    """
    profiles = recorded_profiles(results)
    if not profiles:
        raise CwdError(
            f"{paths.for_people(results)} holds no results: run `make reproduce`, then "
            "`python -m cwd record`."
        )
    books = find_notebooks(paths.NOTEBOOKS)
    pages = [Page(f"recorded_{p.name}", f"Recorded: {p.name}", escape(p.about)) for p in profiles]
    site = Book(output, "Channel-wise distillation", [*pages, *pages_of(books)])
    sources = {profile: Records(profile, results=results) for profile in profiles}
    claims = {profile: verdicts(source) for profile, source in sources.items()}
    for page, (profile, source) in zip(pages, sources.items(), strict=True):
        said = render(source, claims[profile], output / profile.name)
        site.write(page.name, site.render(said, paths.ROOT, site.place(page.name).parent))
    for book in books:
        site.write_notebook(book)
    verdicts_table = tabled(side_by_side(claims), "Every claim: verdict, number of seeds")
    return site.write_front(front(sources.values(), claims), verdicts_table, {})


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


def render(source: Records, claims: pd.DataFrame, folder: Path) -> str:
    """Write a profile's tables and figures; returns its page, in Markdown."""
    missing, studies = [], {name: study(name, source) for name in studies_of(source.profile)}
    tables = {"claims": layout(claims), "claims_not_run": layout(claims, run=False)}
    said, measured = dict.fromkeys(CAPTIONS, ""), {}
    for name, table in studies.items():
        known, tables[name] = set(table.results()["row"]), table.table()
        rows = tuple(row for row in table.rows if row.label in known)
        measured[name] = replace(table, rows=rows)
        due = [row for row in table.rows[2:] if row.runs]  # others are cited
        if count := sum(row not in rows for row in due):
            missing.append(f"{count} of {len(due)} rows of {name}, not measured")
        if count < len(due):
            said[name] = extremes(table)
    if table4 := studies.get("table4"):
        tables["table4_class_iou"] = class_comparison(table4.class_iou())
    if speed := source.beside(paths.DETECTION_COSTS):
        networks = pd.DataFrame(speed["networks"])
        tables["detector_speed"] = networks.set_index(["detector", "role"])
    if channels := source.beside(paths.CHANNELS):
        tables["channels"] = summary(pd.DataFrame(channels["lines"]))
    figures = list(_figures(measured, tables, claims))
    if costs := source.beside(paths.COSTS):
        tables["loss_slopes"] = pd.DataFrame(costs["slopes"]).set_index("loss")
        tables["step_shares"] = step_shares(pd.DataFrame(costs["step"]["seconds"]))
        grid = pd.DataFrame(costs["grid"]["costs"])
        for name, what in (("loss_time", "seconds"), ("loss_memory", "bytes")):
            figures.append(("loss_slopes", name, complexity.growth(grid, what)))
        shares = complexity.shares(tables["step_shares"])
        figures.append(("step_shares", "step_shares", shares))
    elif source.profile.student:
        missing.append("the costs of notebook 05, not recorded")
    titles = {name: TABLES[name].title for name in studies} | CAPTIONS
    drawn = dict.fromkeys(tables, "")
    for table, name, figure in figures:
        save_figure(figure, folder / "figures" / f"{name}.png")
        plt.close(figure)
        file = f"../{folder.name}/figures/{name}.png"
        drawn[table] += pictured(file, titles.get(name, titles[table])) + "\n\n"
    parts = [f"# Recorded: {escape(source.profile.name)}", escape(source.profile.about)]
    for name, frame in tables.items():
        write_atomic(folder / "tables" / f"{name}.csv", frame.to_csv)
        if name in said:
            shown = tabled(frame, "The numbers", f"../{folder.name}/tables/{name}.csv")
            parts += [f"## {titles[name]}", said[name], drawn[name], shown]
    parts += ["## Measured on", tabled(_origins(source), "Runs by hardware, versions and commit")]
    return "\n\n".join([*parts, *(f"Not shown: {line}." for line in missing)])


def _figures(
    measured: dict[str, Study], tables: dict[str, pd.DataFrame], claims: pd.DataFrame
) -> Iterator[tuple[str, str, Figure]]:
    """Figures by table and name; of a study, if two rows and the student alone were measured."""
    enough = {n: t for n, t in measured.items() if len(t.rows) > 3 and t.rows[1].student is None}
    if {"temperature", "weight"} <= enough.keys():
        names = {"temperature": "temperature", "loss weight": "weight"}
        panels = {t: (enough[n].results(), enough[n].values()) for t, n in names.items()}
        figure = comparisons.sweeps(panels, enough["weight"].rows[1].label)
        yield "temperature", "figure3", figure
    for name in ("table2", "table3", "table5", "normalisations", "transformations"):
        if table := enough.get(name):
            figure = comparisons.gains(table.results(), table.paper_gains())
            yield name, "figure4" if name == "table2" else name, figure
    if table := enough.get("table4"):
        yield "table4", "table4", comparisons.class_bars(table.class_iou().iloc[:, 1:])
    if table := enough.get("table6"):
        figure = comparisons.frontier(table.table(), table.source.profile.data.name)
        yield "table6", "table6", figure
    if "table9" in enough:
        yield "table9", "table9_gains", comparisons.gain_panels(tables["table9"], "paper, COCO")
        yield "table9", "table9_sizes", detection.by_size(tables["table9"])
    if "transformation" in enough and tables["transformation"]["our gain"].notna().any():
        figure = comparisons.gain_panels(tables["transformation"], "abstract, full data", 2.7)
        yield "transformation", "transformation_gains", figure
    if claims["unit"].isin(PERCENT).any():
        yield "claims", "claims", comparisons.forest(claims)
