"""The talk: twelve slides of the notebooks' cells, and a drawing that is well-formed."""

import re
from xml.etree import ElementTree

import pytest

from cwd.figures.diagram import networks
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.tools import slides

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def talk(place):
    return slides.write_slides("node_modules").read_text()


def test_twelve_slides_without_code(talk):
    # nbconvert wraps every slide in two sections, for those under it
    assert len(re.findall(r"<section><section", re.sub(r">\s+<", "><", talk))) == 12
    assert "workspace.save_figure" not in talk
    assert talk.count("data:image/png;base64") == 9
    assert 'src="node_modules/requirejs/require.js"' in talk
    assert "node_modules/reveal.js/dist/reveal" in talk


def test_no_cell_is_tagged(place, monkeypatch):
    monkeypatch.setattr(slides, "KINDS", {})
    with pytest.raises(CwdError, match="tagged slide"):
        slides.write_slides()


def test_the_drawing():
    drawn = networks("PSPNet-R101", "PSPNet<R18>", (512, 128), 19)
    words = ["".join(text.itertext()) for text in ElementTree.fromstring(drawn).iter(f"{SVG}text")]
    assert "student PSPNet<R18>, trained" in words
    assert words.count("[19, h, w]") == 2
    assert "1×1 conv, 128 to 512" in words
    assert not any("to 64" in word for word in words)
    equal = networks("a", "b", (64, 64), 9)
    assert "64 to 64" not in equal  # nothing is aligned
    assert (paths.ROOT / "docs" / "networks.svg").read_text() == slides.DRAWN
