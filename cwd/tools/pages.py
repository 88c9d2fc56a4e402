"""HTML pages that show the tables and figures of folders."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from cwd.system.files import write_text


@dataclass(frozen=True)
class Section:
    """A part of a page, see `page.html`.

    Attributes:
        title: its heading.
        folder: whose `tables/*.csv` and `figures/*.png` are shown.
        base: the folder as seen from the page, with a slash at its end; empty for the same.
        text: paragraphs.
        links: targets and titles of notebooks.
        origins: what was measured where.
        missing: what is not shown.
        opened: names of the tables that aren't folded up.
    """

    title: str
    folder: Path | None = None
    base: str = ""
    text: Sequence[str] = ()
    links: Sequence[tuple[str, str]] = ()
    origins: pd.DataFrame | None = None
    missing: Sequence[str] = ()
    opened: Sequence[str] = ()

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The folder's tables by name."""
        found = sorted(self.folder.glob("tables/*.csv")) if self.folder else []
        return {path.stem: pd.read_csv(path) for path in found}

    @property
    def figures(self) -> list[str]:
        """Names of the folder's figures."""
        return sorted(p.stem for p in self.folder.glob("figures/*.png")) if self.folder else []


def write_page(path: Path, sections: Sequence[Section]) -> Path:
    """Write a page; returns its path."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    pages = jinja2.Environment(autoescape=True, trim_blocks=True, loader=loader)
    # pandas escapes what is in the cells
    pages.filters["table"] = lambda frame: Markup(frame.to_html(index=False, na_rep="", border=0))
    write_text(path, pages.get_template("page.html").render(sections=sections))
    return path
