"""A site that a browser reads without a network: notebooks, tables and figures, with a search."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape, unescape
from pathlib import Path
from typing import Any

import jinja2
import nbformat
import pandas as pd
from latex2mathml.converter import convert
from markupsafe import Markup
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter

from cwd.experiments.table import shown
from cwd.system import paths
from cwd.system.files import write_text

PAGES = "html"  # the folder of all pages but the first
CELLS = """{% extends 'basic/index.html.j2' %}
{% block input_group %}<details class="code"{{ "" if cell.metadata.folded else " open" }}>
<summary>code</summary>{{ super() }}</details>{% endblock %}
{% block data_svg %}<div class="output_svg">{{ output.data['image/svg+xml'] }}</div>{% endblock %}
"""
# cells that have a mark before them, by colour and shape
MARKED = re.compile(r"<td>((?:\d+ )?(supported|contradicted|undecided|not run|here|recorded)\b)")
# what the search doesn't read
UNREAD = re.compile(
    r'<(style|math|svg|details class="code"|div class="way").*?'
    r"</(style|math|svg|details|div)>|<[^>]*>",
    re.DOTALL,
)


@dataclass(frozen=True)
class Page:
    """A page of a book: its file's name without ending, and what the contents say of it."""

    name: str
    title: str
    about: str = ""


class Renderer(IPythonRenderer):
    """Markdown as HTML, whose equations are MathML, and whose links lead on from `at`, a folder."""

    def __init__(self, book: "Book", at: Path, **options: Any) -> None:
        super().__init__(escape=False, embed_images=True, **options)
        self.book, self.at = book, at

    def inline_math(self, body: str) -> str:
        """A part of a line."""
        return _mathml(body, "inline")

    def block_math(self, body: str) -> str:
        """An equation of its own."""
        return f'<span class="equation">{_mathml(body, "block")}</span>'

    def latex_environment(self, name: str, body: str) -> str:
        """The same of several lines."""
        return self.block_math(rf"\begin{{{name}}}{body}\end{{{name}}}")

    def link(self, text: str, url: str, title: str | None = None) -> str:
        """To a page of the book, or to a file that lies beside the notebook."""
        place, mark, anchor = url.partition("#")
        if place and not re.match(r"[a-z]+:", place):
            file = Path(os.path.normpath(os.path.join(self.path, place)))
            page = self.book.place(file.stem)
            known = file.suffix == ".ipynb" and file.stem in [p.name for p in self.book.pages]
            url = os.path.relpath(page if known else file, self.at) + mark + anchor
        return super().link(text, url, title)


def _mathml(tex: str, display: str) -> str:
    try:
        return convert(tex, display=display)
    except Exception:  # its errors have no class of their own; what is no TeX is shown as it is
        return f"<code>{escape(tex)}</code>"


def template(name: str, **filters: Any) -> jinja2.Template:
    """A template of this folder; what is filled in is escaped."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    pages = jinja2.Environment(autoescape=True, trim_blocks=True, loader=loader)
    pages.filters |= filters
    return pages.get_template(name)


class Book:
    """The pages of a site in reading order, in `html/` of a folder that has `index.html`."""

    def __init__(self, folder: Path, title: str, pages: Sequence[Page]) -> None:
        self.folder, self.title, self.pages = folder, title, pages

    def place(self, name: str) -> Path:
        """The file of a page."""
        return self.folder / PAGES / f"{name}.html"

    def render(self, source: str, folder: Path, at: Path, **more: Any) -> str:
        """Markdown as HTML for a page in `at`; its links and images start from `folder`."""
        renderer = Renderer(self, at, path=str(folder), **more)
        return MarkdownWithMath(renderer=renderer).render(source)

    def write_notebook(self, path: Path) -> None:
        """Write the page of a notebook as it was executed."""
        book = nbformat.read(path, as_version=4)
        headings = [""]
        for cell in book.cells:
            if cell.cell_type == "markdown":
                headings += re.findall(r"^#+ +(.*)", cell.source, re.MULTILINE)
            cell.metadata |= {"alt": headings[-1], "folded": len(headings) < 3}

        @jinja2.pass_context
        def markdown(context: jinja2.runtime.Context, source: str) -> str:
            added = context["cell"].get("attachments", {})
            return self.render(source, paths.NOTEBOOKS, self.folder / PAGES, attachments=added)

        exporter = HTMLExporter(
            raw_template=CELLS,
            filters={"markdown2html": markdown},
            exclude_input_prompt=True,
            exclude_output_prompt=True,
        )
        self.write(path.stem, exporter.from_notebook_node(book)[0])

    def write(self, name: str, body: str) -> None:
        """Write a page's HTML, with the contents and the way to the pages before and after it."""
        (number,) = [i for i, page in enumerate(self.pages) if page.name == name]
        before, page, after = [None, *self.pages, None][number : number + 3]
        self._write(self.place(name), body, "../", before=before, page=page, after=after)

    def _write(self, path: Path, body: str, root: str, **here: Any) -> None:
        headings = re.findall(r'<h2 id="([^"]+)">(.*?)<a class="anchor-link"', body, re.DOTALL)
        here |= {"parts": [(anchor, Markup(text)) for anchor, text in headings], "book": self}
        for name, style in (("light", "default"), ("dark", "github-dark")):
            here[name] = HtmlFormatter(style=style).get_style_defs(".highlight")
        page = template("book.html").render(body=Markup(body), root=root, **here)
        write_text(path, MARKED.sub(r'<td class="\2">\1', page))

    def write_front(self, said: str, rest: str, notes: Mapping[str, str]) -> Path:
        """Write `index.html`, a page for each that isn't there yet, and what the search reads.

        Markdown comes before the contents, `said`, and after them, `rest`; `notes` go with a page's
        line, by its name. Returns the path.
        """
        for page in self.pages:
            if not self.place(page.name).is_file():
                self.write(page.name, f"<h1>{escape(page.title)}</h1><p>Not executed yet.</p>")
        read = [[f"{PAGES}/{p.name}.html", p.title, _words(self.place(p.name))] for p in self.pages]
        write_text(self.folder / "search.js", f"const PAGES = {json.dumps(read)};\n")
        said, rest, *abouts = (
            Markup(self.render(text, paths.ROOT, self.folder))
            for text in (said, rest, *(page.about for page in self.pages))
        )
        lines = [(p, a, notes.get(p.name)) for p, a in zip(self.pages, abouts, strict=True)]
        self._write(self.folder / "index.html", said, "", lines=lines, rest=rest)
        return self.folder / "index.html"


def tabled(table: pd.DataFrame, caption: str, file: str = "") -> str:
    """A table as HTML with a caption, and a link to its file."""
    link = f' <a href="{escape(file)}">CSV</a>' if file else ""
    body = shown(table)
    return f"<figure><figcaption>{escape(caption)}{link}</figcaption><div>{body}</div></figure>"


def pictured(file: str, caption: str) -> str:
    """A picture as HTML with a caption."""
    image = f'<img src="{escape(file)}" alt="{escape(caption)}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def _words(path: Path) -> str:
    """What is to be read on a page."""
    body = path.read_text(encoding="utf-8").partition("<main>")[2].partition("</main>")[0]
    return " ".join(unescape(UNREAD.sub(" ", body)).replace("¶", "").split())
