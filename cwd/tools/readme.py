"""The numbers in README and docs/results.md, written from what is recorded: `make readme`."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from cwd.experiments import Study, load_profile, study
from cwd.experiments.claims.judging import signed
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
        name, lay_out = SECTIONS[mark[2]]
        fit = {i: each for i, each in sources.items() if name in studies_of(each.profile)}
        tables = {images: Gains(study(name, each)) for images, each in fit.items()}
        measured = {images: gains for images, gains in tables.items() if gains.measured}
        said = lay_out(measured or tables)
        return f"{mark[1]}{said}\n{mark[3]}"

    return marks.sub(section, text)


class Gains:
    """A table's gains over the student alone, seed by seed, ours and the paper's, by row."""

    def __init__(self, study: Study) -> None:
        results = study.results()
        self.by_seed = results.pivot(index="seed", columns="row", values=results.columns[2])
        self.study, self.rows, self.table = study, study.rows, study.table()
        self.paper = self.table["paper gain"]

    @property
    def measured(self) -> bool:
        """Whether any row has gains."""
        return any(len(self.of(row.label)) for row in self.rows)

    def of(self, label: str) -> pd.Series:
        """A row's gains; none where it or its student wasn't measured."""
        student = next((row.student for row in self.rows if row.label == label), None)
        return (self._scores(label) - self._scores(student)).dropna()

    def _scores(self, label: str | None) -> pd.Series:
        return self.by_seed.get(label, pd.Series(dtype=float)).dropna()

    def shown(self, label: str, sign: str = "+") -> str:
        """A row's gains as a cell: mean and sample standard deviation, or the mean of one seed."""
        return _spread(self.of(label), sign)

    def alone(self, label: str) -> str:
        """What a student has alone, as a cell."""
        return _spread(self._scores(label), "")

    def largest(self, labels: Iterable[str]) -> str:
        """Of some rows, the one with the largest mean gain; a CwdError if none was measured."""
        means = pd.Series({label: self.of(label).mean() for label in labels}, dtype=float).dropna()
        if means.empty:
            name = self.study.source.profile.name
            raise CwdError(
                f"the record of profile {name} has too little of {self.study.name} to write about: "
                f"run `make reproduce PROFILE={name} ALL=1`, then `python -m cwd record --profile "
                f"{name}`."
            )
        return means.idxmax()

    def best(self, labels: Iterable[str]) -> str:
        """The same with its gain."""
        label = self.largest(labels)
        return f"{label} ({self.shown(label)})"


def _spread(values: pd.Series, sign: str) -> str:
    if values.empty:
        return ""
    return f"{values.mean():{sign}.2f}" + (f" ± {values.std():.2f}" if len(values) > 1 else "")


def _markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    cells = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells) + "\n"


def _first(tables: dict[str, Gains]) -> Gains:
    return next(iter(tables.values()))


def finding(tables: dict[str, Gains]) -> str:
    """What CW gains in Table 2, and what the best other loss does; a line an image set."""
    said = []
    for images, gains in tables.items():
        labels = [row.label for row in gains.rows[2:]]
        rivals = [label for label in labels if "CW" not in label]
        ours = [label for label in labels if "CW" in label]
        down = any(gains.of(label).mean() < 0 for label in ours)
        verb, sign = ("changes", "+") if down else ("raises", "")
        shown = (gains.shown(label, sign) for label in ours if "CW_s" in label)
        score = " or ".join(filter(None, shown))
        ahead = gains.largest(labels) in rivals
        said.append(
            f"On {images}, CW {verb} the mIoU of a small student by {score} points on the score "
            f"map{' (settings of the script, and of the paper)' if ' or ' in score else ''} and "
            f"{gains.shown('CW_f', sign)} on the feature map; "
            f"{'ahead of it' if ahead else 'the next best'} is {gains.best(rivals)}."
        )
    return "\n".join(said)


def _losses(tables: dict[str, Gains]) -> str:
    paper = _first(tables).paper
    lines = []
    for loss, labels in LOSSES.items():
        line = [loss]
        for label in labels:
            line += [signed(paper.get(label)), *(gains.shown(label) for gains in tables.values())]
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
    lines = [[label, signed(paper[label]), *(gains.shown(label) for gains in tables.values())]
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
        cells.append(signed(first.paper[network, start, "CWD"]))
        for images, gains in tables.items():
            cells += [gains.alone(row.label), *map(gains.shown, names)]
            wins[images] += gains.largest(names) == names[-1]
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
        wins += gains.largest(labels.values()) == labels["CWD"]
        alone, printed = gains.alone(f"{name}: student"), signed(gains.paper[name, "CWD"])
        lines.append([name, alone, *map(gains.shown, labels.values()), printed])
    table = _markdown(["detector", "student alone", *methods[2:], "the paper's CWD"], lines)
    return f"{table}\nCWD gains most on {wins} of the {len(lines)} detectors."


def _tasks(tables: dict[str, Gains]) -> str:
    gains, methods, lines, wins = _first(tables), ("MIMIC", "CWD", "CT"), [], 0
    for task in gains.paper.index.unique(0):
        labels = [f"{task}: {method}" for method in methods]
        wins += gains.largest(labels[::2]) == labels[2]
        about = gains.table.loc[(task, "CT")]
        cells = [task, about["measure"], gains.alone(f"{task}: student")]
        lines.append([*cells, *map(gains.shown, labels), signed(about["paper gain"])])
    header = ["task", "measure", "student alone", *methods, "CT in its abstract"]
    table = _markdown(header, lines)
    return f"{table}\nCT gains more than MIMIC on {wins} of the {len(lines)} tasks."


SECTIONS = {
    "finding": ("table2", finding),
    "losses": ("table2", _losses),
    "combinations": ("table5", _combinations),
    "students": ("table6", _students),
    "detectors": ("table9", _detectors),
    "tasks": ("transformation", _tasks),
}
