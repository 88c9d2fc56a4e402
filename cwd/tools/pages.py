"""HTML pages that show the tables and figures of a folder."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Channel-wise distillation</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
        color: #30343b }}
img {{ max-width: 100% }} figure {{ margin: 1.5rem 0 }} figcaption {{ color: #6f7f8f }}
details {{ overflow-x: auto }}
table {{ border-collapse: collapse; margin: .5rem 0 1rem; font-size: .9rem }}
th, td {{ padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #dde }}
td:first-child, th:first-child {{ text-align: left }}
</style>
{body}
</html>
"""


def page(body: str) -> str:
    """A complete page."""
    return PAGE.format(body=body)


def table(frame: pd.DataFrame) -> str:
    """A table; empty cells where a value is missing."""
    return frame.to_html(index=False, na_rep="", border=0)


def tables(folder: Path, *, opened: Sequence[str] = (), base: str = "") -> str:
    """Every CSV of `folder`/tables, folded up.

    Args:
        folder: where they lie.
        opened: names of those that are shown at once.
        base: the folder as seen from the page, with a slash at its end; empty for the same.
    """
    lines = ["<h2>Tables</h2>"]
    for path in sorted((folder / "tables").glob("*.csv")):
        state = " open" if path.stem in opened else ""
        lines.append(
            f'<details{state}><summary><a href="{base}tables/{path.name}">{path.stem}</a>'
            f"</summary>{table(pd.read_csv(path))}</details>"
        )
    return "\n".join(lines)


def figures(folder: Path, *, base: str = "") -> str:
    """Every PNG of `folder`/figures; arguments as for `tables`."""
    lines = ["<h2>Figures</h2>"]
    lines += [
        f'<figure><img src="{base}figures/{path.name}" alt="{path.stem}">'
        f"<figcaption>{path.stem}</figcaption></figure>"
        for path in sorted((folder / "figures").glob("*.png"))
    ]
    return "\n".join(lines)
