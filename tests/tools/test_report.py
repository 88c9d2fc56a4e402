"""`make report`: from recorded files and committed notebooks to a site, without training."""

import re
from collections import Counter
from html.parser import HTMLParser
from urllib.parse import unquote

import nbformat
import pandas as pd
import pytest
from invented import Invented, recorded

from cwd.experiments import workspace
from cwd.experiments.claims.judging import verdicts
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.tools.report import report

TABLE3 = ("CW_f", "CW_f(metric=bhattacharyya)", "CW_f(metric=l2)", "CW_f(metric=swapped)")
GAINS = {"CW_f": 1.5, "CW_s": 2.5, "CW_s(T=1, weight=35)": 3.5, "MIMIC_f": 0.5, "AT_f": -3.0}


class Elements(HTMLParser):
    """What a page's elements are, their ids, and the text outside of code and scripts."""

    def __init__(self, path):
        super().__init__()
        self.path, self.tags, self.ids, self.text = path, [], set(), ""
        self.inside = Counter()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        self.inside[tag] += 1
        self.tags.append((tag, dict(attrs)))
        self.ids |= {value for name, value in attrs if name == "id"}

    def handle_endtag(self, tag):
        self.inside[tag] -= 1

    def handle_data(self, data):
        if not any(self.inside[tag] for tag in ("pre", "code", "script", "style")):
            self.text += data


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A source of results, and the pages that were made of it, by their paths."""
    folder = tmp_path_factory.mktemp("report")
    miou = {recipe: (51.5, 52.25, 53.0) for recipe in TABLE3} | {"": (50.0, 51.0, 52.0)}
    miou |= {name: tuple(m + gain for m in miou[""]) for name, gain in GAINS.items()}
    source = recorded(folder, Invented(miou))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workspace.paths, "RUNS", folder / "runs")
        front = report(results=folder / "results", output=folder / "report")
    assert not (folder / "runs").exists()  # nothing was trained
    return source, {path: Elements(path) for path in [front, *front.parent.glob("html/*.html")]}


@pytest.fixture(scope="module")
def pages(built):
    return built[1]


def page(pages, name):
    return next(shown for path, shown in pages.items() if path.stem == name)


def test_the_page_of_a_profile(pages):
    shown = page(pages, "recorded_quick")
    folder = shown.path.parents[1] / "quick"
    table = pd.read_csv(folder / "tables" / "table3.csv", index_col=0)
    assert table.loc["CW_f", "our mIoU (streets)"] == 52.5
    assert table.loc["CW_f", "paper mIoU (Cityscapes)"] == 73.52
    figures = {path.stem for path in (folder / "figures").glob("*.png")}
    assert {"table3", "claims"} <= figures
    assert "figure3" not in figures  # nothing of it was measured
    for said in ("a CPU, 2 threads", "0123456789ab", "13 of 18 rows of table2, not measured",
                 "13 of 13 rows of table5, not measured", "gains most, +3.50"):  # fmt: skip
        assert said in shown.text
    headings = re.findall(r'<h2 id="[^"]*">(.*?)<', shown.path.read_text())
    assert headings[0].startswith("The papers")  # claims first
    assert any(heading.startswith("Table 2. ") for heading in headings)
    assert "NaN" not in shown.text
    assert ("td", {"class": "supported"}) in shown.tags


def test_the_front_page_agrees_with_the_records(built):
    source, pages = built
    said = " ".join(page(pages, "index").text.split())
    assert "a small student by 2.50 ± 0.00 or 3.50 ± 0.00 points on the score map" in said
    assert "and 1.50 ± 0.00 on the feature map; the next best is MIMIC_f (+0.50 ± 0.00)" in said
    assert "+4.42 points on the feature map and +3.72 on the score map" in said  # the paper's
    assert "the most that another adds is +3.27 (AT_f)" in said
    found = verdicts(source)["verdict"]
    count = Counter(found)
    assert count["supported"] > 0
    sentence = (
        f"{count['supported']} of {len(found)} claims of the papers are supported, "
        f"{count['contradicted']} contradicted and {count['undecided']} undecided; "
        f"{count['not run']} were not run."
    )
    assert sentence in said
    assert "CW improves the student, on either map: " + found[0] in said


def test_every_equation_is_mathml(pages):
    for path in paths.NOTEBOOKS.glob("*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        written = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
        equations = re.findall(r"\$\$.+?\$\$|\$[^$\n]+\$", written, re.DOTALL)
        shown = page(pages, path.stem)
        math = [tag for tag, _ in shown.tags if tag == "math"]
        in_headings = len(
            re.findall(r"^## .*\$.*\$", written, re.MULTILINE)
        )  # in the contents, too
        assert len(math) == len(equations) + in_headings, path.name
    for shown in pages.values():
        assert not re.search(r"\$|\\[a-zA-Z]", shown.text), shown.path.name


def test_pages_load_nothing_from_a_network(pages):
    for shown in pages.values():
        for tag, given in shown.tags:
            loaded = given.get("src") or (given.get("href") if tag == "link" else None)
            assert not re.match(r"(\w+:)?//", loaded or ""), (shown.path.name, tag, loaded)
        style = re.findall(r"<style.*?</style>", shown.path.read_text(), re.DOTALL)
        assert not any("url(" in part or "@import" in part for part in style)


def test_links_lead_somewhere(pages):
    links = set()
    for path, shown in pages.items():
        for given in (given for tag, given in shown.tags if tag in ("a", "script", "img")):
            to = given.get("href") or given.get("src") or ""
            if not re.match(r"(https?|data):", to) and to:
                place, _, anchor = to.partition("#")
                target = (path.parent / unquote(place)).resolve() if place else path
                assert target.exists(), (path.name, to)
                if anchor and target in pages:
                    assert anchor in pages[target].ids, (path.name, to)
                links.add(target)
    assert links >= set(pages)


def test_the_contents_are_in_the_order_of_the_readme(pages):
    table = (paths.ROOT / "README.md").read_text().partition("| notebook |")[2].partition("## ")[0]
    order = [name for name in re.findall(r"\(notebooks/(\w+)\.ipynb\)", table)]
    listed = [given.get("href", "") for tag, given in page(pages, "index").tags if tag == "a"]
    names = [to[5:-5] for to in listed if to.startswith("html/") and "recorded" not in to]
    places = {name: names.index(name) for name in order}
    assert sorted(order, key=places.get) == order
    assert {path.stem for path in paths.NOTEBOOKS.glob("*.ipynb")} == set(names)


def test_nothing_recorded(tmp_path):
    (tmp_path / "results").mkdir()
    with pytest.raises(CwdError, match="holds no results"):
        report(results=tmp_path / "results", output=tmp_path / "report")
