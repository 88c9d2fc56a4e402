"""What street scenes are drawn with: colours, a canvas, and a camera in some light."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw
from torchvision.datasets import Cityscapes

IDS = {cls.name: cls.id for cls in Cityscapes.classes}
SUPERSAMPLING = 2  # the picture is drawn larger than its labels and averaged down
CAMERA_HEIGHT = 1.5  # metres above the road
# of which every single one is known; all else is surface
THINGS = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")

Colour = tuple[float, float, float]
Point = Span = tuple[float, float]
Box = tuple[float, float, float, float]

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


def shade(colour: Colour, factor: float) -> Colour:
    """A lighter or darker colour."""
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def pick(rng: Generator, options: Sequence[Colour]) -> Colour:
    """One of several colours, a little off."""
    base, factor = options[int(rng.integers(len(options)))], rng.uniform(0.8, 1.15)
    return shade(base, factor)


class View:
    """A picture and its labels, and the camera and the light that they are drawn with.

    Places are metres to the right of the camera (X) and depth z in units in which z = 1 is the
    lower edge of the image; a metre has `metre / z` pixels. A value is a Cityscapes label id, for
    an instance label id * 1000 + number; None leaves the labels as they are.
    """

    def __init__(self, rng: Generator, size: tuple[int, int], light: Colour, haze: Colour) -> None:
        self.rng, self.light, self.haze = rng, shade(light, rng.uniform(0.85, 1.12)), haze
        self.height, self.width = height, width = size
        self.horizon = height * rng.uniform(0.38, 0.5)  # its row
        self.vanishing = width * rng.uniform(0.36, 0.64)  # the column of the vanishing point
        self.thickness = rng.uniform(0.01, 0.07)  # of the haze
        self.metre = (height - self.horizon) / CAMERA_HEIGHT
        self.counts: Counter[str] = Counter()
        self.picture = Image.new("RGB", (width * SUPERSAMPLING, height * SUPERSAMPLING))
        self.values = Image.new("I", (width, height), IDS["sky"])
        self.paint, self.mark = ImageDraw.Draw(self.picture), ImageDraw.Draw(self.values)

    def at(self, x: float, z: float, up: float = 0.0) -> Point:
        """The pixel at X metres, depth z, and `up` metres above the ground."""
        scale = self.metre / z
        return self.vanishing + x * scale, self.horizon + (CAMERA_HEIGHT - up) * scale

    def lit(self, colour: Colour, z: float) -> Colour:
        """A colour in this light, behind so much haze."""
        clear = float(np.exp(-self.thickness * (z - 1)))
        parts = zip(colour, self.light, self.haze, strict=True)
        r, g, b = (clear * own * light + (1 - clear) * haze for own, light, haze in parts)
        return r, g, b

    def panel(self, x: float, depths: Span, heights: Span, colour: Colour, value: int) -> None:
        """An upright rectangle along the street, in a colour that is lit."""
        (near, far), (low, high) = depths, heights
        corners = ((near, low), (near, high), (far, high), (far, low))
        self.polygon([self.at(x, z, up) for z, up in corners], colour, value)

    def polygon(self, points: Sequence[Point], colour: Colour, value: int | None) -> None:
        """Fill a polygon."""
        self.paint.polygon([_larger(*point) for point in points], fill=_whole(colour))
        if value is not None:
            self.mark.polygon(points, fill=value)

    def box(self, box: Box, colour: Colour, value: int) -> None:
        """Fill a rectangle of left, top, right and bottom, at least half a pixel wide and high."""
        left, top, right, bottom = box
        box = left, top, max(right, left + 0.5), max(bottom, top + 0.5)
        places = (self.paint, _larger(*box), _whole(colour)), (self.mark, map(round, box), value)
        for pen, (left, top, right, bottom), fill in places:  # PIL counts the last pixel in
            pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), fill=fill)

    def ellipse(self, box: Box, colour: Colour, value: int | None, rim: float = 0.0) -> None:
        """Fill an ellipse of x, y and two radii, or its rim; the values of both are filled."""
        x, y, rx, ry = box
        shown = {"fill": _whole(colour)}
        if rim:
            shown = {"outline": _whole(colour), "width": max(1, round(rim * SUPERSAMPLING))}
        self.paint.ellipse(_larger(x - rx, y - ry, x + rx, y + ry), **shown)
        if value is not None:
            # half a pixel less at the far side, which PIL counts in; never less than nothing
            far = x + max(rx - 0.5, -rx), y + max(ry - 0.5, -ry)
            self.mark.ellipse((x - rx, y - ry, *far), fill=value)

    def line(self, a: Point, b: Point, colour: Colour, value: int, thick: float) -> None:
        """Draw a line, `thick` pixels wide and at least one."""
        wide = max(1, round(thick * SUPERSAMPLING))
        self.paint.line(_larger(*a, *b), fill=_whole(colour), width=wide)
        self.mark.line((*a, *b), fill=value, width=max(1, round(thick)))


class Thing:
    """Something of a class at a place, drawn in metres to the right of its foot and above it."""

    def __init__(self, view: View, x: float, z: float, kind: str, lift: float = 0.0) -> None:
        self.view, self.rng, self.x, self.z, self.kind = view, view.rng, x, z, kind
        self.metre, self.foot, self.value = view.metre / z, view.at(x, z, lift), IDS[kind]
        if kind in THINGS:
            self.value = 1000 * IDS[kind] + view.counts[kind]
            view.counts[kind] += 1

    def at(self, x: float, up: float) -> Point:
        """The pixel of a point."""
        return self.foot[0] + x * self.metre, self.foot[1] - up * self.metre

    def lit(self, colour: Colour) -> Colour:
        """A colour in this light, as far away as it is."""
        return self.view.lit(colour, self.z)

    def polygon(self, corners: Sequence[Point], colour: Colour) -> None:
        """Fill a polygon."""
        points = [self.at(*corner) for corner in corners]
        self.view.polygon(points, self.lit(colour), self.value)

    def slab(self, low: float, high: float, below: Span, above: Span, colour: Colour) -> None:
        """Fill a trapezium, given what it spans from left to right below and above."""
        corners = ((below[0], low), (above[0], high), (above[1], high), (below[1], low))
        self.polygon(corners, colour)

    def box(self, x: float, half: float, low: float, high: float, colour: Colour) -> None:
        """Fill a rectangle that is `half` metres wide to both sides of x."""
        box = *self.at(x - half, high), *self.at(x + half, low)
        self.view.box(box, self.lit(colour), self.value)

    def ellipse(self, x: float, up: float, radii: Span, colour: Colour, rim: float = 0.0) -> None:
        """Fill an ellipse, or draw its rim."""
        box = *self.at(x, up), radii[0] * self.metre, radii[1] * self.metre
        self.view.ellipse(box, self.lit(colour), self.value, rim * self.metre)

    def line(self, a: Point, b: Point, colour: Colour, thick: float) -> None:
        """Draw a line, `thick` metres wide."""
        thick *= self.metre
        self.view.line(self.at(*a), self.at(*b), self.lit(colour), self.value, thick)

    def shadow(self, half: float) -> None:
        """Darkness on the ground, `half` metres to both sides."""
        half *= self.metre
        box = *self.view.at(self.x, self.z), half, 0.16 * half
        self.view.ellipse(box, self.lit((46, 46, 50)), None)


def _larger(*numbers: float) -> tuple[float, ...]:
    return tuple(number * SUPERSAMPLING for number in numbers)


def _whole(colour: Colour) -> tuple[int, ...]:
    return tuple(min(255, max(0, int(part))) for part in colour)
