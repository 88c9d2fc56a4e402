"""What a street scene is set in: sky, skyline, ground, and what stands along the road."""

from itertools import pairwise

import numpy as np
from PIL import Image

from cwd.data.scenes.canvas import FACADES, IDS, LEAVES, PAINT, Colour, Thing, View, pick, shade


def draw_sky(view: View, top: Colour, low: Colour) -> None:
    """A gradient, and clouds."""
    rng = view.rng
    rows = np.linspace(0, 1, view.picture.height)[:, None, None]
    share = np.clip(rows * view.height / view.horizon, 0, 1)
    gradient = (1 - share) * np.array(top) + share * np.array(low)
    gradient = np.broadcast_to(gradient, (*view.picture.size[::-1], 3)).astype(np.uint8)
    view.picture.paste(Image.fromarray(np.ascontiguousarray(gradient)))
    for _ in range(int(rng.integers(0, 5))):
        x, y = rng.uniform(0, view.width), rng.uniform(0, 0.75 * view.horizon)
        white = shade(tuple(0.35 * a + 0.65 * 255 for a in low), rng.uniform(0.92, 1.0))
        for _ in range(4):
            dx, dy = rng.normal(0, 0.05) * view.width, rng.normal(0, 0.012) * view.height
            r = rng.uniform(0.03, 0.08) * view.width
            view.ellipse((x + dx, y + dy, r, 0.28 * r), white, None)


def draw_skyline(view: View) -> None:
    """Far houses and trees along the horizon."""
    rng, row = view.rng, view.horizon
    x = -0.05 * view.width
    while x < view.width:
        wide, tall = rng.uniform(0.05, 0.14) * view.width, rng.uniform(0.02, 0.13) * view.height
        if rng.random() < 0.55:
            colour = view.lit(pick(rng, FACADES), 14)
            view.box((x, row - tall, x + wide, row + 1), colour, IDS["building"])
        else:
            colour = view.lit(pick(rng, LEAVES), 12)
            view.ellipse((x + wide / 2, row, wide / 1.6, tall), colour, IDS["vegetation"])
        x += wide * rng.uniform(0.7, 1.1)


def draw_ground(view: View, road: float, walk: float) -> None:
    """Terrain to the horizon, sidewalks, the road and its markings."""
    rng = view.rng
    grass = view.lit(pick(rng, ((96, 134, 70), (124, 136, 78), (150, 136, 98))), 2)
    view.box((0, view.horizon, view.width, view.height), grass, IDS["terrain"])

    def strip(left: float, right: float, colour: Colour, kind: str | None = None,
              near: float = 0.9, far: float = 40.0) -> None:  # fmt: skip
        corners = ((left, near), (left, far), (right, far), (right, near))
        shown = view.lit(colour, (far * near) ** 0.5 / 2 + 0.5)
        view.polygon([view.at(x, z) for x, z in corners], shown, IDS[kind] if kind else None)

    stone = pick(rng, ((168, 162, 156), (186, 170, 152), (146, 142, 144)))
    asphalt = pick(rng, ((92, 92, 98), (110, 108, 108), (78, 80, 88)))
    white = (226, 226, 220)
    strip(-walk, walk, stone, "sidewalk")
    strip(-road - 0.15, road + 0.15, shade(stone, 1.15), "sidewalk")
    strip(-road, road, asphalt, "road")
    for z in np.geomspace(1.0, 14.0, 10).tolist():
        strip(-0.07, 0.07, white, near=z, far=1.16 * z)
    if rng.random() < 0.7:
        for x in (-0.93 * road, 0.93 * road):
            strip(x - 0.06, x + 0.06, white)
    if rng.random() < 0.3:
        z = rng.uniform(1.6, 3.5)
        for x in np.arange(-road + 0.3, road - 0.3, 0.9):
            strip(x, x + 0.45, white, near=z, far=1.22 * z)


def draw_roadside(view: View, side: int, walk: float) -> None:
    """What stands beyond the sidewalk on one side, from far to near."""
    rng, z, edges = view.rng, 0.75, []
    while z < 16:
        edges.append(z)
        z *= rng.uniform(1.25, 1.7)
    town = rng.uniform(0.3, 0.75)  # how built-up this side is
    kinds, rest = ("building", "wall", "fence", "hedge", "open"), (1 - town) / 4
    for near, far in reversed(list(pairwise(edges))):
        kind = kinds[int(rng.choice(5, p=(town, rest, rest, rest, rest)))]
        x = side * (walk + rng.uniform(0.1, 0.8))
        if kind == "building":
            _draw_building(view, side, x, near, far)
        elif kind in ("wall", "fence"):
            _draw_barrier(view, x, near, far, kind)
        elif kind == "hedge":
            for z in np.geomspace(far, near, 5).tolist():
                _draw_bush(view, x + side * rng.uniform(0.2, 1.2), z)


def draw_hood(view: View) -> None:
    """The camera's own car, at the lower edge."""
    rng, hood = view.rng, view.lit(shade(pick(view.rng, PAINT), 0.5), 1)
    reach = view.width * rng.uniform(0.3, 0.5), view.height * rng.uniform(0.06, 0.12)
    view.ellipse((view.width / 2, view.height, *reach), hood, IDS["ego vehicle"])


def _draw_building(view: View, side: int, x: float, near: float, far: float) -> None:
    """A house: the facade along the street, the gable that faces the camera, windows, a door."""
    rng = view.rng
    tall, depth = rng.uniform(5.0, 13.0), rng.uniform(5.0, 12.0)
    wall, z = pick(rng, FACADES), (near * far) ** 0.5
    gable = (0, side * depth)
    Thing(view, x, near, "building").slab(0, tall, gable, gable, shade(wall, 0.82))

    def pane(a: float, b: float, low: float, high: float, colour: Colour) -> None:
        view.panel(x, (a, b), (low, high), view.lit(colour, z), IDS["building"])

    pane(near, far, 0, tall, wall)
    pane(near, far, tall - 0.35, tall, shade(wall, 0.7))
    pane(near, far, 0, 0.5, shade(wall, 0.75))
    glass = pick(rng, ((74, 90, 108), (54, 60, 72), (150, 176, 196)))
    columns = (near * (far / near) ** np.linspace(0.08, 0.96, 7)).tolist()
    for low in np.arange(3.4 if rng.random() < 0.5 else 1.0, tall - 1.6, 2.8):
        for a, b in zip(columns[::2], columns[1::2], strict=False):
            shown = (250, 214, 130) if rng.random() < 0.12 else shade(glass, rng.uniform(0.8, 1.2))
            pane(a, b, low, low + 1.5, shown)
    pane(columns[2], columns[3] * 0.97, 0, 2.2, shade(wall, 0.45))


def _draw_barrier(view: View, x: float, near: float, far: float, kind: str) -> None:
    """A wall with its coping, or a fence with posts and rails."""
    rng, wall = view.rng, kind == "wall"
    tall = rng.uniform(1.5, 3.0) if wall else rng.uniform(1.1, 2.0)
    colour = pick(rng, FACADES if wall else ((122, 92, 66), (96, 108, 100)))
    if wall:
        panels = (0, tall, 1), (tall - 0.2, tall, 1.2)
    else:  # what is seen through a fence is labelled as fence too, as people do
        panels = (0, tall, 0.55), (0.25 * tall, 0.38 * tall, 1), (0.78 * tall, 0.9 * tall, 1)
    for low, high, factor in panels:
        shown = view.lit(shade(colour, factor), (near * far) ** 0.5)
        view.panel(x, (near, far), (low, high), shown, IDS[kind])
    for z in [] if wall else np.geomspace(near, far, 12).tolist():
        Thing(view, x, z, kind).line((0, 0), (0, tall), colour, 0.1)


def _draw_bush(view: View, x: float, z: float) -> None:
    rng, bush, leaf = view.rng, Thing(view, x, z, "vegetation"), pick(view.rng, LEAVES)
    for _ in range(4):
        dx, r = rng.normal(0, 0.5), rng.uniform(0.5, 0.95)
        bush.ellipse(dx, 0.6 * r, (r, r), shade(leaf, rng.uniform(0.75, 1.2)))
