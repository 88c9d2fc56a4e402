"""HTML pages that show the tables and figures of folders."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from cwd.system.files import write_text


def section(title: str, folder: Path, base: str = "", **more: Any) -> dict[str, Any]:
    """A part of a page, with a folder's `tables/*.csv` and `figures/*.png`.

    `base` is the folder as seen from the page, with a slash at its end; empty for the same. More
    are `text`, paragraphs; `links`, targets and titles; `origins`, what was measured where;
    `missing`, what isn't shown; `opened`, the tables that aren't folded up.
    """
    tables = {path.stem: pd.read_csv(path) for path in sorted(folder.glob("tables/*.csv"))}
    figures = sorted(path.stem for path in folder.glob("figures/*.png"))
    return {"title": title, "base": base, "tables": tables, "figures": figures} | more


def write_page(path: Path, sections: Sequence[dict[str, Any]]) -> Path:
    """Write a page; returns its path."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    pages = jinja2.Environment(autoescape=True, trim_blocks=True, loader=loader)
    # pandas escapes what is in the cells
    pages.filters["table"] = lambda frame: Markup(frame.to_html(index=False, na_rep="", border=0))
    write_text(path, pages.get_template("page.html").render(sections=sections))
    return path
