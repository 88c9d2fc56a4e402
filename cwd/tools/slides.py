"""A talk from the notebooks' tagged cells, as reveal.js slides: `make slides`."""

from pathlib import Path

import nbformat
from nbconvert import SlidesExporter

from cwd.figures.diagram import networks
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.system.files import write_text
from cwd.tools.reproduce import find_notebooks

# the tag of a cell that begins a slide, and of one that goes on with it
KINDS = {"slide": "slide", "slide-more": "-"}
DRAWN = networks("PSPNet-R101", "PSPNet-R18", (512, 128), 19)  # the paper's on Cityscapes


def write_slides(modules: str = "") -> Path:
    """Write `build/slides/talk.html` and `networks.svg` beside it; returns the talk's path.

    Outputs are those of the committed notebooks; code isn't shown. The page has its pictures in it;
    the programs that turn slides and draw equations it takes from the network when it is opened, or
    from `modules`, a folder beside it with the npm packages reveal.js, requirejs and mathjax. A
    talk without cells is a `CwdError`.
    """
    cells = []
    for path in find_notebooks(paths.NOTEBOOKS):
        for cell in nbformat.read(path, as_version=4).cells:
            for tag in KINDS.keys() & set(cell.metadata.get("tags", [])):
                cell["id"] = f"slide-{len(cells)}"  # two notebooks may have the same
                cell.metadata["slideshow"] = {"slide_type": KINDS[tag]}
                cells.append(cell)
    if not cells:
        raise CwdError("no cell of the notebooks is tagged slide: restore them from git.")
    exporter = SlidesExporter(exclude_input=True, reveal_scroll=True, reveal_theme="simple")
    if modules:
        exporter.reveal_url_prefix = f"{modules}/reveal.js"
        exporter.require_js_url = f"{modules}/requirejs/require.js"
        exporter.mathjax_url = f"{modules}/mathjax/MathJax.js?config=TeX-AMS_CHTML-full,Safe"
    talk = nbformat.v4.new_notebook(cells=cells)
    body, _ = exporter.from_notebook_node(talk)
    folder = paths.BUILD / "slides"
    write_text(folder / "networks.svg", DRAWN)
    write_text(folder / "talk.html", body.replace('.ipynb"', '.html"'))
    return folder / "talk.html"
