"""What street scenes are drawn with: colours, a canvas, and a camera in some light."""

from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw
from torchvision.datasets import Cityscapes

IDS = {cls.name: cls.id for cls in Cityscapes.classes}
SUPERSAMPLING = 2  # the picture is drawn larger than its labels and averaged down
CAMERA_HEIGHT = 1.5  # metres above the road

Colour = tuple[float, float, float]
Point = tuple[float, float]

# name: sky at the top, sky at the horizon, colour of the light
LIGHTS = {
    "noon": ((92, 148, 214), (190, 215, 238), (1.0, 1.0, 1.0)),
    "morning": ((120, 160, 205), (248, 222, 190), (1.05, 0.97, 0.88)),
    "evening": ((88, 96, 150), (250, 178, 120), (1.0, 0.84, 0.74)),
    "overcast": ((168, 176, 186), (214, 218, 222), (0.9, 0.92, 0.95)),
    "dusk": ((44, 54, 96), (150, 130, 160), (0.62, 0.62, 0.78)),
}
PAINT = (
    (196, 40, 44), (32, 74, 140), (226, 226, 228), (44, 46, 52), (140, 146, 152), (226, 178, 60),
    (52, 110, 84), (110, 60, 100), (92, 160, 190), (222, 120, 60),
)  # fmt: skip
FACADES = (
    (186, 150, 120), (164, 92, 74), (206, 194, 170), (150, 152, 160), (126, 110, 100),
    (214, 170, 120), (172, 178, 150), (120, 134, 150), (226, 214, 200),
)  # fmt: skip
LEAVES = ((62, 110, 52), (86, 128, 56), (48, 92, 62), (122, 132, 52), (150, 108, 46))
CLOTHES = PAINT + LEAVES
SKIN = ((236, 196, 164), (198, 148, 110), (132, 90, 62), (92, 62, 46))


@dataclass
class Canvas:
    """Picture and labels, drawn together.

    A value is a Cityscapes label id, or for an instance label id * 1000 + number, as in
    Cityscapes' instanceIds images.

    Args:
        height: of the labels, in pixels.
        width: the same.
    """

    height: int
    width: int
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        s = SUPERSAMPLING
        self.picture = Image.new("RGB", (self.width * s, self.height * s))
        self.values = Image.new("I", (self.width, self.height), IDS["sky"])
        self.paint, self.mark = ImageDraw.Draw(self.picture), ImageDraw.Draw(self.values)

    def polygon(self, points: list[Point], colour: Colour, value: int | None) -> None:
        """Fill a polygon; a value of None leaves the labels as they are."""
        s = SUPERSAMPLING
        self.paint.polygon([(x * s, y * s) for x, y in points], fill=whole(colour))
        if value is not None:
            self.mark.polygon(points, fill=value)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour,
            value: int | None) -> None:  # fmt: skip
        """Fill a rectangle, at least a pixel wide and high."""
        right, bottom = max(right, left + 0.5), max(bottom, top + 0.5)
        s = SUPERSAMPLING
        far = max(left * s, right * s - 1), max(top * s, bottom * s - 1)
        self.paint.rectangle((left * s, top * s, *far), fill=whole(colour))
        if value is not None:
            edges = round(left), round(top)
            far = max(edges[0], round(right) - 1), max(edges[1], round(bottom) - 1)
            self.mark.rectangle((*edges, *far), fill=value)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour,
                value: int | None) -> None:  # fmt: skip
        """Fill an ellipse around (x, y)."""
        s = SUPERSAMPLING
        box = (x - rx) * s, (y - ry) * s, (x + rx) * s, (y + ry) * s
        self.paint.ellipse(box, fill=whole(colour))
        if value is not None:
            # half a pixel less at the far side, which PIL counts in; never less than nothing
            far = x + max(rx - 0.5, -rx), y + max(ry - 0.5, -ry)
            self.mark.ellipse((x - rx, y - ry, *far), fill=value)

    def ring(self, x: float, y: float, r: float, colour: Colour, value: int, thick: float) -> None:
        """Draw a wheel's rim; its inside is labelled too, as people label bicycles."""
        s = SUPERSAMPLING
        box = (x - r) * s, (y - r) * s, (x + r) * s, (y + r) * s
        self.paint.ellipse(box, outline=whole(colour), width=max(1, round(thick * s)))
        far = max(r - 0.5, -r)
        self.mark.ellipse((x - r, y - r, x + far, y + far), fill=value)

    def line(self, a: Point, b: Point, colour: Colour, value: int | None, thick: float) -> None:
        """Draw a line, `thick` pixels wide and at least one."""
        s = SUPERSAMPLING
        ends = (a[0] * s, a[1] * s, b[0] * s, b[1] * s)
        self.paint.line(ends, fill=whole(colour), width=max(1, round(thick * s)))
        if value is not None:
            self.mark.line((*a, *b), fill=value, width=max(1, round(thick)))

    def instance(self, kind: str) -> int:
        """A new instance's value."""
        number = self.counts.get(kind, 0)
        self.counts[kind] = number + 1
        return IDS[kind] * 1000 + number


def whole(colour: Colour) -> tuple[int, int, int]:
    """A colour as PIL takes it."""
    r, g, b = colour
    return min(255, max(0, int(r))), min(255, max(0, int(g))), min(255, max(0, int(b)))


def shade(colour: Colour, factor: float) -> Colour:
    """A lighter or darker colour."""
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def pick(rng: Generator, options: tuple) -> Colour:
    """One of several colours, a little off."""
    base, factor = options[int(rng.integers(len(options)))], rng.uniform(0.8, 1.15)
    return shade(base, factor)


@dataclass
class View:
    """The camera, the light and the canvas: everything that drawing a thing needs.

    Places are metres to the right of the camera (X) and depth z in units in which z = 1 is the
    lower edge of the image; a metre has `metre / z` pixels.
    """

    canvas: Canvas
    rng: Generator
    horizon: float  # row, in pixels
    vanishing: float  # column
    light: Colour
    haze: Colour
    thickness: float  # of the haze

    def __post_init__(self) -> None:
        self.metre = (self.canvas.height - self.horizon) / CAMERA_HEIGHT

    def at(self, x: float, z: float, up: float = 0.0) -> Point:
        """The pixel at X metres, depth z, and `up` metres above the ground."""
        scale = self.metre / z
        return self.vanishing + x * scale, self.horizon + (CAMERA_HEIGHT - up) * scale

    def lit(self, colour: Colour, z: float) -> Colour:
        """A colour in this light, behind so much haze."""
        clear = float(np.exp(-self.thickness * (z - 1)))
        r, g, b = (
            clear * c * i + (1 - clear) * h
            for c, i, h in zip(colour, self.light, self.haze, strict=True)
        )
        return r, g, b

    def shadow(self, x: float, z: float, half: float) -> None:
        """Darkness on the ground below something `half` metres to both sides wide."""
        column, row = self.at(x, z)
        scale = self.metre / z
        colour = self.lit((46, 46, 50), z)
        self.canvas.ellipse(column, row, half * scale, 0.16 * half * scale, colour, None)
