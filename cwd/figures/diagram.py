"""A drawing of the two networks and of where the losses tap them, as SVG, for lectures."""

from collections.abc import Sequence
from html import escape

from cwd.figures.style import CHANNEL, INK, SPATIAL, STUDENT, TEACHER

WIDTH, HEIGHT = 920, 300
ROWS = {"teacher": (40, TEACHER), "student": (210, STUDENT)}  # top of a row of boxes, its colour
# of each row: what the boxes are called, and where each begins and ends
STAGES = (("backbone", 130, 230), ("head", 265, 345), ("feature map", 385, 485),
          ("1×1 conv", 530, 600), ("score map", 645, 745))  # fmt: skip
HIGH = 70  # of a box


def networks(
    teacher: str, student: str, feature_channels: tuple[int, int], num_classes: int
) -> str:
    """Figure 2, left, as a drawing: both networks, their two maps, and the losses between them.

    Names are the networks'; the feature maps' channels are the teacher's and the student's.
    """
    parts = [_box(15, 125, 90, HIGH, ("image",), INK)]
    named = zip(ROWS.items(), (teacher, student), feature_channels, strict=True)
    for (role, (top, colour)), name, channels in named:
        frozen = "frozen" if role == "teacher" else "trained"
        parts.append(_text(130, top - 10, f"{role} {name}, {frozen}", colour, "start"))
        sizes = {"feature map": f"[{channels}, h, w]", "score map": f"[{num_classes}, h, w]"}
        parts.append(_arrow((105, 160), (130, top + HIGH / 2), INK))
        for index, (title, left, right) in enumerate(STAGES):
            lines = (title, sizes[title]) if title in sizes else (title,)
            parts.append(_box(left, top, right - left, HIGH, lines, colour, title in sizes))
            if index:
                parts.append(_arrow((STAGES[index - 1][2], top + 35), (left, top + 35), INK))
    low, high = ROWS["teacher"][0] + HIGH, ROWS["student"][0]
    for x, words, colour in (
        (420, "CW_f", CHANNEL), (680, "CW_s", CHANNEL), (725, "PI, HO", SPATIAL)
    ):  # fmt: skip
        parts.append(_arrow((x, low), (x, high), colour, both=True))
        anchor, at = ("start", x + 6) if colour == SPATIAL else ("end", x - 6)
        parts.append(_text(at, (low + high) / 2 + 4, words, colour, anchor))
    if feature_channels[0] != feature_channels[1]:
        said = f"1×1 conv, {feature_channels[1]} to {feature_channels[0]}"
        parts.append(_text(428, high - 14, said, CHANNEL, "start", 12))
    parts += [
        _box(800, 210, 105, HIGH, ("labels",), INK),
        _arrow((745, 245), (800, 245), INK, True),
    ]
    parts.append(_text(772, 236, "CE", INK))
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" font-family="sans-serif">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{_heads()}\n{body}\n</svg>\n'
    )


def _heads() -> str:  # an arrow's head in each colour: SVG 1.1 has none that takes its line's
    shape = '<path d="M 0 0 L 10 5 L 0 10 z"'
    heads = (
        f'<marker id="{colour[1:]}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
        f'markerHeight="7" orient="auto-start-reverse">{shape} fill="{colour}"/></marker>'
        for colour in (INK, CHANNEL, SPATIAL)
    )
    return f"<defs>{''.join(heads)}</defs>"


def _box(
    x: float, y: float, width: float, height: float, lines: Sequence[str], colour: str,
    filled: bool = False,
) -> str:  # fmt: skip
    fill = colour if filled else "none"
    box = (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" stroke="{colour}" '
        f'stroke-width="2" fill="{fill}" fill-opacity="0.15"/>'
    )
    first = y + height / 2 + 5 - 9 * (len(lines) - 1)
    words = (
        _text(x + width / 2, first + 18 * n, line, INK, "middle", 14)
        for n, line in enumerate(lines)
    )
    return box + "".join(words)


def _text(
    x: float, y: float, words: str, colour: str, anchor: str = "middle", size: int = 15
) -> str:
    style = f'fill="{colour}" font-size="{size}" text-anchor="{anchor}"'
    return f'<text x="{x}" y="{y}" {style}>{escape(words)}</text>'


def _arrow(
    start: tuple[float, float], end: tuple[float, float], colour: str, both: bool = False
) -> str:
    head = f"url(#{colour[1:]})"
    heads = f'marker-end="{head}"' + (f' marker-start="{head}"' if both else "")
    (x1, y1), (x2, y2) = start, end
    line = f'x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"'
    return f'<line {line} stroke="{colour}" stroke-width="2" {heads}/>'
