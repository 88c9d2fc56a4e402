"""The numbers in README and docs/results.md, written from what is recorded: `make readme`."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from cwd.experiments import Study, load_profile, study
from cwd.experiments.records import Records, every_seed
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.system.files import write_text

IMAGES = {"scenes": "quick", "CamVid": "camvid-cpu"}  # the recorded profiles by what they see
LOSSES = ("MIMIC", "AT", "PI", "LOCAL", "PA", "IFV", "HO", "CW")
FILES = ("README.md", "docs/results.md")


def write_readme(root: Path = paths.ROOT) -> list[Path]:
    """Renew the generated sections of the files; returns the files.

    Raises:
        CwdError: a file has no such section.
    """
    for name in FILES:
        write_text(root / name, renewed((root / name).read_text(), name))
    return [root / name for name in FILES]


def renewed(text: str, name: str) -> str:
    """A file's text with its generated sections as they should be now."""
    found = sections()
    marks = re.compile(r"(<!-- make readme: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
    if not marks.search(text):
        raise CwdError(f"{name} has no <!-- make readme: ... --> section: restore it from git.")
    return marks.sub(lambda part: f"{part[1]}{found[part[2]]}\n{part[3]}", text)


def sections() -> dict[str, str]:
    """The sections by name, in Markdown."""
    sources = {images: Records(every_seed(load_profile(p))) for images, p in IMAGES.items()}
    tables = {
        name: {images: Gains(study(name, source)) for images, source in sources.items()}
        for name in ("table2", "table5", "table6")
    }
    scenes = sources["scenes"]
    return {
        "finding": finding(tables["table2"]),
        "losses": losses(tables["table2"]),
        "combinations": combinations(tables["table5"]),
        "students": students(tables["table6"]),
        "detectors": detectors(Gains(study("table9", scenes))),
        "tasks": tasks(Gains(study("transformation", scenes))),
    }


class Gains:
    """A table's gains over the student alone, seed by seed, ours and the paper's, by row."""

    def __init__(self, table: Study) -> None:
        self.rows, results = table.rows, table.results()
        self.by_seed = results.pivot(index="seed", columns="row", values=results.columns[2])
        self.table = table.table()
        self.paper = self.table["paper gain"]

    def of(self, label: str) -> pd.Series:
        """A row's gains; none where it or its student wasn't measured."""
        alone = next((row.student for row in self.rows if row.label == label), None)
        if {label, alone} <= set(self.by_seed):
            return (self.by_seed[label] - self.by_seed[alone]).dropna()
        return pd.Series(dtype=float)

    def shown(self, label: str) -> str:
        """A row's gains as a cell."""
        return spread(self.of(label))

    def best(self, labels: Iterable[str]) -> str:
        """The row with the largest mean gain among some, and that gain."""
        label = max(labels, key=lambda each: self.of(each).mean())
        return f"{label} ({self.shown(label)})"


def spread(values: pd.Series, sign: str = "+") -> str:
    """Mean and sample standard deviation; the mean alone of one seed; empty of none."""
    values = values.dropna()
    if values.empty:
        return ""
    return f"{values.mean():{sign}.2f}" + (f" ± {values.std():.2f}" if len(values) > 1 else "")


def printed(value: float) -> str:
    """A gain that a paper prints, or nothing."""
    return "" if pd.isna(value) else f"{value:+.2f}"


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, and an empty line after it."""
    cells = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells) + "\n"


def finding(tables: dict[str, Gains]) -> str:
    """The result in a sentence for each kind of images."""
    said = []
    for images, gains in tables.items():
        rivals = [r.label for r in gains.rows[2:] if "CW" not in r.label and len(gains.of(r.label))]
        ahead = gains.of("CW_s").mean() > max(gains.of(label).mean() for label in rivals)
        said.append(
            f"On {images}, CW raises the mIoU of a small student by {spread(gains.of('CW_s'), '')} "
            f"points on the score map and {spread(gains.of('CW_f'), '')} on the feature map; "
            f"{'the next best loss is' if ahead else 'ahead of it is'} {gains.best(rivals)}."
        )
    return "\n".join(said)


def losses(tables: dict[str, Gains]) -> str:
    """Table 2: each loss alone, on both maps."""
    paper = next(iter(tables.values())).paper
    lines = []
    for loss in LOSSES:
        line = [loss]
        for label in (f"{loss}_f", f"{loss}_s"):
            line += [printed(paper.get(label)), *(gains.shown(label) for gains in tables.values())]
        lines.append(line)
    columns = ["paper", *tables]
    header = ["loss", *(f"{tap}, {c}" for tap in ("feature map", "score map") for c in columns)]
    best = []
    for images, gains in tables.items():
        for tap in "fs":
            best.append(f"{gains.best(x for x in paper.index if x.endswith(tap))} on {images}")
    return markdown(header, lines) + f"\nThe largest gains on either map: {', '.join(best)}."


def combinations(tables: dict[str, Gains]) -> str:
    """Table 5."""
    paper = next(iter(tables.values())).paper.iloc[2:]
    lines = [[label, printed(paper[label]), *(g.shown(label) for g in tables.values())]
             for label in paper.index]  # fmt: skip
    best = "; ".join(f"on {images} {g.best(paper.index)}" for images, g in tables.items())
    table = markdown(["recipe", "paper", *tables], lines)
    return f"{table}\nThe largest gain: {best}; in the paper {paper.idxmax()}."


def students(tables: dict[str, Gains]) -> str:
    """Table 6: the students that were measured."""
    scenes, methods = tables["scenes"], ("SKDS", "IFVD", "CWD")
    lines, wins = [], 0
    for row in scenes.rows:
        label, _, method = row.label.partition(": ")
        if method != "student" or row.label not in scenes.by_seed:
            continue
        mine = {method: scenes.of(f"{label}: {method}").mean() for method in methods}
        wins += mine["CWD"] == max(mine.values())
        network, start = label.split(", ")
        starts = [start] if pd.notna(scenes.paper[network, start, "CWD"]) else ["ImageNet"]
        gain = printed(scenes.paper[network, starts[0], "CWD"])
        cells = [row.runs[0].network, f"{network}, {starts[0]}", gain]
        cells += [
            spread(scenes.by_seed[row.label], ""),
            *(scenes.shown(f"{label}: {m}") for m in mine),
        ]
        lines.append([*cells, tables["CamVid"].shown(f"{label}: CWD")])
    header = ["student here", "for the paper's", "its CWD gain", "alone", *methods, "CWD, CamVid"]
    count = f"{wins} of the {len(lines)} students"
    return markdown(header, lines) + f"\nOn scenes CWD adds most for {count}."


def detectors(gains: Gains) -> str:
    """Table 9."""
    names, methods = (list(dict.fromkeys(gains.paper.index.get_level_values(i))) for i in (0, 1))
    methods, lines, wins = methods[2:], [], 0
    for name in names:
        cells = [gains.shown(f"{name}: {method}") for method in methods]
        wins += gains.best(f"{name}: {m}" for m in methods if (name, m) in gains.paper).startswith(
            f"{name}: CWD"
        )
        alone = spread(gains.by_seed[f"{name}: student"], "")
        lines.append([name, alone, *cells, printed(gains.paper[name, "CWD"])])
    table = markdown(["detector", "student alone", *methods, "the paper's CWD"], lines)
    return f"{table}\nCWD gains most on {wins} of the {len(lines)} detectors."


def tasks(gains: Gains) -> str:
    """The second paper's four tasks."""
    methods, lines, wins = ("MIMIC", "CWD", "CT"), [], 0
    for task in dict.fromkeys(gains.paper.index.get_level_values(0)):
        means = [gains.of(f"{task}: {method}").mean() for method in methods]
        wins += means[2] > means[0]
        about = gains.table.loc[(task, "CT")]
        cells = [gains.shown(f"{task}: {method}") for method in methods]
        alone = spread(gains.by_seed[f"{task}: student"], "")
        lines.append([task, about["measure"], alone, *cells, printed(about["paper gain"])])
    header = ["task", "measure", "student alone", *methods, "CT in its abstract"]
    return (
        markdown(header, lines) + f"\nCT gains more than MIMIC on {wins} of the {len(lines)} tasks."
    )
