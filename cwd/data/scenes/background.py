"""What a street scene is set in: sky, skyline, ground, and what stands along the road."""

from itertools import pairwise

import numpy as np
from PIL import Image

from cwd.data.scenes.canvas import FACADES, IDS, LEAVES, Colour, View, pick, shade


def draw_sky(view: View, top: Colour, low: Colour) -> None:
    """A gradient, and clouds."""
    canvas, rng = view.canvas, view.rng
    rows = np.linspace(0, 1, canvas.picture.height)[:, None, None]
    share = np.clip(rows * canvas.height / view.horizon, 0, 1)
    gradient = (1 - share) * np.array(top) + share * np.array(low)
    gradient = np.broadcast_to(gradient, (*canvas.picture.size[::-1], 3)).astype(np.uint8)
    canvas.picture.paste(Image.fromarray(np.ascontiguousarray(gradient)))
    for _ in range(int(rng.integers(0, 5))):
        x, y = rng.uniform(0, canvas.width), rng.uniform(0, 0.75 * view.horizon)
        white = shade(tuple(0.35 * a + 0.65 * 255 for a in low), rng.uniform(0.92, 1.0))
        for _ in range(4):
            dx, dy = rng.normal(0, 0.05) * canvas.width, rng.normal(0, 0.012) * canvas.height
            r = rng.uniform(0.03, 0.08) * canvas.width
            canvas.ellipse(x + dx, y + dy, r, 0.28 * r, white, None)


def draw_skyline(view: View) -> None:
    """Far houses and trees along the horizon."""
    canvas, rng = view.canvas, view.rng
    x = -0.05 * canvas.width
    while x < canvas.width:
        wide, tall = rng.uniform(0.05, 0.14) * canvas.width, rng.uniform(0.02, 0.13) * canvas.height
        if rng.random() < 0.55:
            colour = view.lit(pick(rng, FACADES), 14)
            canvas.box(x, view.horizon - tall, x + wide, view.horizon + 1, colour, IDS["building"])
        else:
            colour = view.lit(pick(rng, LEAVES), 12)
            canvas.ellipse(x + wide / 2, view.horizon, wide / 1.6, tall, colour, IDS["vegetation"])
        x += wide * rng.uniform(0.7, 1.1)


def draw_ground(view: View, road: float, walk: float) -> None:
    """Terrain to the horizon, sidewalks, the road and its markings."""
    canvas, rng = view.canvas, view.rng
    far, near = 40.0, 0.9
    grass = pick(rng, ((96, 134, 70), (124, 136, 78), (150, 136, 98)))
    canvas.box(0, view.horizon, canvas.width, canvas.height, view.lit(grass, 2), IDS["terrain"])

    def strip(left: float, right: float, z: tuple[float, float], colour: Colour,
              value: int | None) -> None:  # fmt: skip
        corners = [view.at(x, d) for x, d in
                   ((left, z[0]), (left, z[1]), (right, z[1]), (right, z[0]))]  # fmt: skip
        canvas.polygon(corners, view.lit(colour, (z[0] * z[1]) ** 0.5 / 2 + 0.5), value)

    stone = pick(rng, ((168, 162, 156), (186, 170, 152), (146, 142, 144)))
    asphalt = pick(rng, ((92, 92, 98), (110, 108, 108), (78, 80, 88)))
    strip(-walk, walk, (near, far), stone, IDS["sidewalk"])
    strip(-road - 0.15, road + 0.15, (near, far), shade(stone, 1.15), IDS["sidewalk"])
    strip(-road, road, (near, far), asphalt, IDS["road"])
    white = (226, 226, 220)
    for z in np.geomspace(1.0, 14.0, 10):
        strip(-0.07, 0.07, (float(z), float(z) * 1.16), white, None)
    if rng.random() < 0.7:
        for x in (-0.93 * road, 0.93 * road):
            strip(x - 0.06, x + 0.06, (near, far), white, None)
    if rng.random() < 0.3:
        z = rng.uniform(1.6, 3.5)
        for x in np.arange(-road + 0.3, road - 0.3, 0.9):
            strip(x, x + 0.45, (z, z * 1.22), white, None)


def draw_roadside(view: View, side: int, walk: float) -> None:
    """What stands beyond the sidewalk on one side, from far to near."""
    rng = view.rng
    z, edges = 0.75, []
    while z < 16:
        edges.append(z)
        z *= rng.uniform(1.25, 1.7)
    town = rng.uniform(0.3, 0.75)  # how built-up this side is
    kinds, rest = ("building", "wall", "fence", "hedge", "open"), (1 - town) / 4
    for near, far in reversed(list(pairwise(edges))):
        kind = kinds[int(rng.choice(5, p=(town, rest, rest, rest, rest)))]
        x = side * (walk + rng.uniform(0.1, 0.8))
        if kind == "building":
            draw_building(view, side, x, near, far)
        elif kind in ("wall", "fence"):
            draw_barrier(view, x, near, far, kind)
        elif kind == "hedge":
            for z in np.geomspace(far, near, 5):
                draw_bush(view, x + side * rng.uniform(0.2, 1.2), float(z))


def draw_building(view: View, side: int, x: float, near: float, far: float) -> None:
    """A house: the facade along the street, the gable that faces the camera, windows, a door."""
    canvas, rng, value = view.canvas, view.rng, IDS["building"]
    tall, depth = rng.uniform(5.0, 13.0), rng.uniform(5.0, 12.0)
    wall, z = pick(rng, FACADES), (near * far) ** 0.5
    front = [view.at(x, near), view.at(x + side * depth, near)]
    roof = [view.at(x + side * depth, near, tall), view.at(x, near, tall)]
    canvas.polygon(front + roof, view.lit(shade(wall, 0.82), near), value)

    def pane(a: float, b: float, low: float, high: float, colour: Colour) -> None:
        corners = ((a, low), (a, high), (b, high), (b, low))
        canvas.polygon([view.at(x, d, u) for d, u in corners], view.lit(colour, z), value)

    pane(near, far, 0, tall, wall)
    pane(near, far, tall - 0.35, tall, shade(wall, 0.7))
    pane(near, far, 0, 0.5, shade(wall, 0.75))
    glass = pick(rng, ((74, 90, 108), (54, 60, 72), (150, 176, 196)))
    columns = near * (far / near) ** np.linspace(0.08, 0.96, 7)
    for low in np.arange(3.4 if rng.random() < 0.5 else 1.0, tall - 1.6, 2.8):
        for a, b in zip(columns[::2], columns[1::2], strict=False):
            shown = (250, 214, 130) if rng.random() < 0.12 else shade(glass, rng.uniform(0.8, 1.2))
            pane(float(a), float(b), float(low), float(low) + 1.5, shown)
    pane(float(columns[2]), float(columns[3]) * 0.97, 0, 2.2, shade(wall, 0.45))


def draw_barrier(view: View, x: float, near: float, far: float, kind: str) -> None:
    """A wall with its coping, or a fence with posts and rails."""
    canvas, rng, value = view.canvas, view.rng, IDS[kind]
    tall = rng.uniform(1.5, 3.0) if kind == "wall" else rng.uniform(1.1, 2.0)
    colour = pick(rng, FACADES if kind == "wall" else ((122, 92, 66), (96, 108, 100)))
    z = (near * far) ** 0.5

    def panel(low: float, high: float, shown: Colour) -> None:
        corners = ((near, low), (near, high), (far, high), (far, low))
        canvas.polygon([view.at(x, d, u) for d, u in corners], view.lit(shown, z), value)

    if kind == "wall":
        panel(0, tall, colour)
        panel(tall - 0.2, tall, shade(colour, 1.2))
        return
    panel(0, tall, shade(colour, 0.55))  # what is seen through it, labelled as fence as people do
    panel(0.25 * tall, 0.38 * tall, colour)
    panel(0.78 * tall, 0.9 * tall, colour)
    for d in np.geomspace(near, far, 12):
        thick = 0.1 * view.metre / float(d)
        canvas.line(view.at(x, float(d)), view.at(x, float(d), tall), view.lit(colour, float(d)),
                    value, thick)  # fmt: skip


def draw_bush(view: View, x: float, z: float) -> None:
    """Low leaves."""
    m, leaf = view.metre / z, pick(view.rng, LEAVES)
    column, ground = view.at(x, z)
    for _ in range(4):
        dx, r = view.rng.normal(0, 0.5) * m, view.rng.uniform(0.5, 0.95) * m
        colour = view.lit(shade(leaf, view.rng.uniform(0.75, 1.2)), z)
        view.canvas.ellipse(column + dx, ground - 0.6 * r, r, r, colour, IDS["vegetation"])
