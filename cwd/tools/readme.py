"""The numbers in README and docs/results.md, written from what is recorded: `make readme`."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from cwd.experiments import Study, load_profile, study
from cwd.experiments.records import Records, every_seed
from cwd.experiments.study import studies_of
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.system.files import write_text

IMAGES = {"streets": "quick", "CamVid": "camvid-cpu"}  # the recorded profiles by what they see
# lines of Table 2: a name, and the rows of the feature map and of the score map
LOSSES = {name: (f"{name}_f", f"{name}_s") for name in ("MIMIC", "AT", "LOCAL", "PA", "IFV", "HO")}
LOSSES |= {
    "PI, equation 6": ("PI_f", "PI_s"),
    "PI, released code": ("PI_f(norm=released)", "PI_s(norm=released)"),
    "CW": ("CW_f", "CW_s"),
    "CW, weight 35 and T = 1": ("", "CW_s(T=1, weight=35)"),
}
FILES = ("README.md", "docs/results.md")


def write_readme() -> list[Path]:
    """Renew the generated sections of the files; returns the files."""
    files = [paths.ROOT / name for name in FILES]
    for path in files:
        write_text(path, renewed(path.read_text(), paths.for_people(path)))
    return files


def renewed(text: str, name: str) -> str:
    """A file's text with its generated sections as they should be now; a CwdError without any."""
    marks = re.compile(r"(<!-- make readme: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
    if not marks.search(text):
        raise CwdError(f"{name} has no <!-- make readme: ... --> section: restore it from git.")
    sources = {images: Records(every_seed(load_profile(p))) for images, p in IMAGES.items()}

    def section(mark: re.Match) -> str:
        table, lay_out = SECTIONS[mark[2]]
        fit = {
            images: each for images, each in sources.items() if table in studies_of(each.profile)
        }
        gains = {images: Gains(study(table, each)) for images, each in fit.items()}
        return f"{mark[1]}{lay_out(gains)}\n{mark[3]}"

    return marks.sub(section, text)


class Gains:
    """A table's gains over the student alone, seed by seed, ours and the paper's, by row."""

    def __init__(self, table: Study) -> None:
        results = table.results()
        self.by_seed = results.pivot(index="seed", columns="row", values=results.columns[2])
        self.rows, self.table = table.rows, table.table()
        self.paper = self.table["paper gain"]
        self.students = {row.label: row.student for row in table.rows}

    def of(self, label: str) -> pd.Series:
        """A row's gains; none where it or its student wasn't measured."""
        if {label, self.students.get(label)} <= set(self.by_seed):
            return (self.by_seed[label] - self.by_seed[self.students[label]]).dropna()
        return pd.Series(dtype=float)

    def shown(self, label: str) -> str:
        """A row's gains as a cell."""
        return _spread(self.of(label))

    def alone(self, label: str) -> str:
        """What a student has alone, as a cell."""
        return _spread(self.by_seed[label], "")

    def best(self, labels: Iterable[str]) -> str:
        """Of some rows that were measured, the one with the largest mean gain, and that gain."""
        means = {label: self.of(label).mean() for label in labels}
        label = pd.Series(means).idxmax()
        return f"{label} ({self.shown(label)})"


def _spread(values: pd.Series, sign: str = "+") -> str:
    """Mean and sample standard deviation; the mean alone of one seed; empty of none."""
    values = values.dropna()
    if values.empty:
        return ""
    return f"{values.mean():{sign}.2f}" + (f" ± {values.std():.2f}" if len(values) > 1 else "")


def _printed(value: float) -> str:
    """A gain that a paper prints, or nothing."""
    return "" if pd.isna(value) else f"{value:+.2f}"


def _markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, and an empty line after it."""
    cells = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells) + "\n"


def _first(tables: dict[str, Gains]) -> Gains:
    return next(iter(tables.values()))


def _finding(tables: dict[str, Gains]) -> str:
    said = []
    for images, gains in tables.items():
        rivals = [row.label for row in gains.rows[2:] if "CW" not in row.label]
        ours = [row.label for row in gains.rows[2:] if "CW_s" in row.label]
        measured = [label for label in (*rivals, *ours) if len(gains.of(label))]
        best = max(measured, key=lambda label: gains.of(label).mean())
        feature = _spread(gains.of("CW_f"), "")
        score = " or ".join(_spread(gains.of(label), "") for label in ours if label in measured)
        said.append(
            f"On {images}, CW raises the mIoU of a small student by {score} points on the score "
            f"map{' (settings of the script, and of the paper)' if ' or ' in score else ''} and "
            f"{feature} on the feature map; {'ahead of it' if best in rivals else 'the next best'} "
            f"is {gains.best(label for label in rivals if label in measured)}."
        )
    return "\n".join(said)


def _losses(tables: dict[str, Gains]) -> str:
    paper = _first(tables).paper
    lines = []
    for loss, labels in LOSSES.items():
        line = [loss]
        for label in labels:
            line += [_printed(paper.get(label)), *(gains.shown(label) for gains in tables.values())]
        lines.append(line)
    columns = ["paper", *tables]
    header = ["loss", *(f"{tap}, {c}" for tap in ("feature map", "score map") for c in columns)]
    best = ", ".join(
        f"{gains.best(filter(None, labels))} on {images}"
        for images, gains in tables.items()
        for labels in zip(*LOSSES.values(), strict=True)
    )
    return _markdown(header, lines) + f"\nThe largest gains on either map: {best}."


def _combinations(tables: dict[str, Gains]) -> str:
    paper = _first(tables).paper.iloc[2:]
    lines = [[label, _printed(paper[label]), *(gains.shown(label) for gains in tables.values())]
             for label in paper.index]  # fmt: skip
    best = "; ".join(f"on {images} {g.best(paper.index)}" for images, g in tables.items())
    table = _markdown(["recipe", "paper", *tables], lines)
    return f"{table}\nThe largest gain: {best}; in the paper {paper.idxmax()}."


def _students(tables: dict[str, Gains]) -> str:
    first, methods = _first(tables), ("SKDS", "IFVD", "CWD")
    lines, wins = [], Counter()
    for row in first.rows:
        label, _, method = row.label.partition(": ")
        if method != "student" or row.label not in first.by_seed:
            continue
        names = [f"{label}: {method}" for method in methods]
        network, start = label.split(", ")
        if pd.isna(first.paper[network, start, "CWD"]):
            start = "ImageNet"
        cells = [row.runs[0].network, f"{network}, {start}"]
        cells.append(_printed(first.paper[network, start, "CWD"]))
        for images, gains in tables.items():
            cells += [gains.alone(row.label), *map(gains.shown, names)]
            wins[images] += gains.best(names).startswith(names[-1])
        lines.append(cells)
    header = ["student here", "for the paper's", "its CWD gain"]
    header += [f"{what}, {images}" for images in tables for what in ("alone", *methods)]
    count = " and ".join(f"{wins[images]} on {images}" for images in tables)
    table = _markdown(header, lines)
    return f"{table}\nOf the {len(lines)} students, CWD adds most for {count}."


def _detectors(tables: dict[str, Gains]) -> str:
    gains, lines, wins = _first(tables), [], 0
    detectors, methods = (gains.paper.index.unique(level) for level in (0, 1))
    for name in detectors:
        labels = {method: f"{name}: {method}" for method in methods[2:]}
        wins += gains.best(labels.values()).startswith(labels["CWD"])
        alone, printed = gains.alone(f"{name}: student"), _printed(gains.paper[name, "CWD"])
        lines.append([name, alone, *map(gains.shown, labels.values()), printed])
    table = _markdown(["detector", "student alone", *methods[2:], "the paper's CWD"], lines)
    return f"{table}\nCWD gains most on {wins} of the {len(lines)} detectors."


def _tasks(tables: dict[str, Gains]) -> str:
    gains, methods, lines, wins = _first(tables), ("MIMIC", "CWD", "CT"), [], 0
    for task in gains.paper.index.unique(0):
        labels = [f"{task}: {method}" for method in methods]
        wins += gains.best(labels[::2]).startswith(labels[2])
        about = gains.table.loc[(task, "CT")]
        cells = [task, about["measure"], gains.alone(f"{task}: student")]
        lines.append([*cells, *map(gains.shown, labels), _printed(about["paper gain"])])
    header = ["task", "measure", "student alone", *methods, "CT in its abstract"]
    table = _markdown(header, lines)
    return f"{table}\nCT gains more than MIMIC on {wins} of the {len(lines)} tasks."


SECTIONS = {
    "finding": ("table2", _finding),
    "losses": ("table2", _losses),
    "combinations": ("table5", _combinations),
    "students": ("table6", _students),
    "detectors": ("table9", _detectors),
    "tasks": ("transformation", _tasks),
}
