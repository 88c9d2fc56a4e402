"""What stands and moves in a street: one function for each kind of thing."""

import numpy as np

from cwd.data.scenes.canvas import CLOTHES, IDS, LEAVES, PAINT, SKIN, Colour, View, pick, shade


def car(view: View, x: float, z: float, kind: str = "car") -> None:
    """A car from behind or in front."""
    c, rng, value = view.canvas, view.rng, view.canvas.instance(kind)
    m, (column, ground) = view.metre / z, view.at(x, z)
    body, wide, tall = pick(rng, PAINT), 0.92 * m, rng.uniform(1.4, 1.75) * m
    view.shadow(x, z, 1.15)
    paint, dark = view.lit(body, z), view.lit(shade(body, 0.7), z)
    tyre = view.lit((28, 28, 30), z)
    for side in (-1, 1):
        left = column + side * 0.68 * m - 0.14 * m
        c.box(left, ground - 0.3 * m, left + 0.28 * m, ground, tyre, value)
    roof, belt = ground - tall, ground - 0.55 * tall
    c.polygon(
        [
            (column - 0.84 * wide, belt), (column - 0.62 * wide, roof),
            (column + 0.62 * wide, roof), (column + 0.84 * wide, belt),
        ],
        dark, value,
    )  # fmt: skip
    glass = view.lit((88, 108, 128), z)
    c.polygon(
        [
            (column - 0.7 * wide, belt), (column - 0.54 * wide, roof + 0.1 * tall),
            (column + 0.54 * wide, roof + 0.1 * tall), (column + 0.7 * wide, belt),
        ],
        glass, value,
    )  # fmt: skip
    c.box(column - wide, belt, column + wide, ground - 0.14 * tall, paint, value)
    c.box(column - wide, ground - 0.26 * tall, column + wide, ground - 0.12 * tall, dark, value)
    lamp = (232, 60, 50) if rng.random() < 0.6 else (255, 246, 214)
    for side in (-1, 1):
        left = column + side * 0.78 * wide - 0.14 * wide
        lamps = ground - 0.48 * tall, ground - 0.36 * tall
        c.box(left, lamps[0], left + 0.28 * wide, lamps[1], view.lit(lamp, z), value)
    plate = view.lit((236, 236, 226), z)
    c.box(column - 0.2 * wide, ground - 0.3 * tall, column + 0.2 * wide, ground - 0.2 * tall, plate,
          value)  # fmt: skip


def side_car(view: View, x: float, z: float, kind: str = "car") -> None:
    """A car seen from its side, crossing or parked."""
    c, rng, value = view.canvas, view.rng, view.canvas.instance(kind)
    m, (column, ground) = view.metre / z, view.at(x, z)
    body, long, tall = pick(rng, PAINT), 2.1 * m, 1.5 * m
    view.shadow(x, z, 2.3)
    paint, glass = view.lit(body, z), view.lit((84, 104, 124), z)
    belt, roof = ground - 0.55 * tall, ground - tall
    c.polygon(
        [
            (column - 0.66 * long, belt), (column - 0.4 * long, roof),
            (column + 0.3 * long, roof), (column + 0.62 * long, belt),
        ],
        paint, value,
    )  # fmt: skip
    c.polygon(
        [
            (column - 0.54 * long, belt), (column - 0.36 * long, roof + 0.1 * tall),
            (column + 0.26 * long, roof + 0.1 * tall), (column + 0.5 * long, belt),
        ],
        glass, value,
    )  # fmt: skip
    c.box(column - 0.08 * long, roof, column - 0.02 * long, belt, paint, value)
    c.box(column - long, belt, column + long, ground - 0.18 * tall, paint, value)
    for side in (-0.62, 0.62):
        hub = column + side * long, ground - 0.33 * m
        c.ellipse(*hub, 0.33 * m, 0.33 * m, view.lit((26, 26, 28), z), value)
        c.ellipse(*hub, 0.16 * m, 0.16 * m, view.lit((150, 150, 154), z), value)


def tall_vehicle(view: View, x: float, z: float, kind: str) -> None:
    """A truck, a bus or a train from the front, with the side that the camera sees."""
    c, rng, value = view.canvas, view.rng, view.canvas.instance(kind)
    size = {"truck": (1.2, 3.3, 6.0), "bus": (1.25, 3.1, 10.0), "train": (1.3, 3.5, 24.0)}
    half, tall, length = size[kind]
    far = z + length * 0.45  # depth is foreshortened
    body = pick(rng, PAINT)
    cargo = (222, 222, 214) if kind == "truck" and rng.random() < 0.6 else shade(body, 0.8)
    view.shadow(x, z, 1.15 * half)
    inner = x + half if x < 0 else x - half  # the side towards the middle of the image
    ground, top = 0.25, tall

    def side(a: float, b: float, low: float, high: float, colour: Colour) -> None:
        corners = [view.at(inner, d, u) for d, u in ((a, low), (a, high), (b, high), (b, low))]
        c.polygon(corners, view.lit(colour, z), value)

    side(z, far, ground, top, shade(cargo, 0.75))
    if kind != "truck":
        count = 5 if kind == "bus" else 9
        steps = z * (far / z) ** np.linspace(0.04, 0.96, 2 * count)
        for a, b in zip(steps[::2], steps[1::2], strict=True):
            side(a, b, 0.5 * tall, 0.8 * tall, (70, 88, 108))
    if kind == "train":
        side(z, far, 0.32 * tall, 0.4 * tall, (236, 236, 232))
    (left, bottom), (right, roof) = view.at(x - half, z, ground), view.at(x + half, z, top)
    wide, high = right - left, bottom - roof
    c.box(left, roof, right, bottom, view.lit(body, z), value)
    glass = view.lit((76, 96, 118), z)
    upper = {"truck": 0.3, "bus": 0.16, "train": 0.18}[kind]
    c.box(left + 0.08 * wide, roof + upper * high, right - 0.08 * wide, roof + 0.58 * high, glass,
          value)  # fmt: skip
    if kind == "truck":
        c.box(left, roof, right, roof + 0.2 * high, view.lit(cargo, z), value)
    elif kind == "bus":
        sign = view.lit((250, 190, 60), z)
        c.box(left + 0.2 * wide, roof + 0.05 * high, right - 0.2 * wide, roof + 0.12 * high, sign,
              value)  # fmt: skip
    else:
        c.box(left, roof + 0.66 * high, right, roof + 0.74 * high, view.lit((240, 240, 236), z),
              value)  # fmt: skip
    for edge in (0.06, 0.76):
        lamp = left + edge * wide, roof + 0.8 * high
        c.box(*lamp, lamp[0] + 0.18 * wide, lamp[1] + 0.08 * high, view.lit((255, 244, 206), z),
              value)  # fmt: skip
        wheel = left + edge * wide, bottom
        c.box(*wheel, wheel[0] + 0.18 * wide, view.at(x, z)[1], view.lit((26, 26, 28), z), value)


def person(view: View, x: float, z: float, *, kind: str = "person", lift: float = 0.0) -> None:
    """Somebody who stands or walks; a rider sits `lift` metres higher and has no legs to show."""
    c, rng, value = view.canvas, view.rng, view.canvas.instance(kind)
    m = view.metre / z * rng.uniform(0.9, 1.1)
    column, ground = view.at(x, z, lift)
    coat, trousers = view.lit(pick(rng, CLOTHES), z), view.lit(shade(pick(rng, CLOTHES), 0.6), z)
    skin = view.lit(pick(rng, SKIN), z)
    hips, shoulders = ground - 0.82 * m, ground - 1.45 * m
    if kind == "person":
        view.shadow(x, z, 0.45)
        stride = rng.uniform(0.02, 0.26) * m
        for side in (-1, 1):
            c.line((column + side * 0.08 * m, hips), (column + side * stride, ground), trousers,
                   value, 0.19 * m)  # fmt: skip
    else:
        hips, shoulders = ground - 0.1 * m, ground - 0.72 * m
        for side in (-1, 1):
            c.line((column + side * 0.1 * m, hips), (column + side * 0.16 * m, ground + 0.4 * m),
                   trousers, value, 0.17 * m)  # fmt: skip
    swing = rng.uniform(0.0, 0.16) * m
    for side in (-1, 1):
        upper = (column + side * 0.24 * m, shoulders + 0.06 * m)
        hand = (column + side * (0.28 * m + swing), hips)
        c.line(upper, hand, shade(coat, 0.85), value, 0.13 * m)
    c.polygon(
        [
            (column - 0.26 * m, shoulders), (column + 0.26 * m, shoulders),
            (column + 0.2 * m, hips + 0.06 * m), (column - 0.2 * m, hips + 0.06 * m),
        ],
        coat, value,
    )  # fmt: skip
    head = shoulders - 0.16 * m
    c.ellipse(column, head, 0.14 * m, 0.17 * m, skin, value)
    hair = view.lit(pick(rng, ((60, 42, 30), (30, 28, 28), (150, 110, 60), (200, 60, 50))), z)
    c.ellipse(column, head - 0.07 * m, 0.145 * m, 0.11 * m, hair, value)


def two_wheeler(view: View, x: float, z: float, kind: str, *, ridden: bool) -> None:
    """A bicycle or a motorcycle from the side, with or without its rider."""
    c, rng, value = view.canvas, view.rng, view.canvas.instance(kind)
    m, (column, ground) = view.metre / z, view.at(x, z)
    radius = 0.36 * m if kind == "bicycle" else 0.33 * m
    reach = 0.55 * m if kind == "bicycle" else 0.68 * m
    frame, tyre = view.lit(pick(rng, PAINT), z), view.lit((30, 30, 32), z)
    view.shadow(x, z, 0.9)
    hub = ground - radius
    if ridden:
        person(view, x, z, kind="rider", lift=0.9)
    for side in (-1, 1):
        if kind == "bicycle":
            c.ring(column + side * reach, hub, radius, tyre, value, 0.09 * m)
        else:
            c.ellipse(column + side * reach, hub, radius, radius, tyre, value)
            c.ellipse(column + side * reach, hub, radius / 2, radius / 2, view.lit((130,) * 3, z),
                      value)  # fmt: skip
    thick = 0.09 * m if kind == "bicycle" else 0.24 * m
    seat, bar = (column - 0.25 * m, hub - 0.5 * m), (column + 0.42 * m, hub - 0.6 * m)
    crank = (column, hub)
    for a, b in (((column - reach, hub), crank), (crank, seat), (crank, bar), (seat, bar)):
        c.line(a, b, frame, value, thick)
    c.line(bar, (column + reach, hub), frame, value, thick * 0.8)
    if kind == "motorcycle":
        c.ellipse(column + 0.1 * m, hub - 0.42 * m, 0.32 * m, 0.18 * m, frame, value)
        c.ellipse(column, hub, 0.26 * m, 0.2 * m, view.lit((70, 70, 76), z), value)
    c.line((seat[0] - 0.16 * m, seat[1]), (seat[0] + 0.16 * m, seat[1]), tyre, value, 0.1 * m)


def tree(view: View, x: float, z: float) -> None:
    """A trunk and a crown of overlapping leaves."""
    c, rng = view.canvas, view.rng
    m, (column, ground) = view.metre / z, view.at(x, z)
    leaf, tall = pick(rng, LEAVES), rng.uniform(4.0, 6.5) * m
    trunk = view.lit((92, 72, 56), z)
    view.shadow(x, z, 1.2)
    c.box(column - 0.14 * m, ground - 0.55 * tall, column + 0.14 * m, ground, trunk,
          IDS["vegetation"])  # fmt: skip
    for _ in range(9):
        dx, dy = rng.normal(0, 0.75) * m, rng.uniform(-0.26, 0.2) * tall
        r = rng.uniform(0.6, 1.1) * m
        colour = view.lit(shade(leaf, rng.uniform(0.72, 1.25) - 0.3 * dy / tall), z)
        c.ellipse(column + dx, ground - 0.72 * tall + dy, r, 0.85 * r, colour, IDS["vegetation"])


def pole(view: View, x: float, z: float, top: str) -> None:
    """A pole that carries a lamp, a traffic light or a traffic sign."""
    c, rng = view.canvas, view.rng
    m, (column, ground) = view.metre / z, view.at(x, z)
    tall = (5.5 if top == "lamp" else rng.uniform(2.9, 3.6)) * m
    metal = view.lit(pick(rng, ((112, 114, 118), (70, 78, 74), (150, 148, 140))), z)
    c.line((column, ground), (column, ground - tall), metal, IDS["pole"], 0.16 * m)
    if top == "lamp":
        arm = column - np.sign(x) * 1.4 * m
        c.line((column, ground - tall), (arm, ground - tall), metal, IDS["pole"], 0.12 * m)
        c.box(arm - 0.3 * m, ground - tall, arm + 0.3 * m, ground - tall + 0.16 * m,
              view.lit((252, 244, 210), z), IDS["pole"])  # fmt: skip
    elif top == "traffic light":
        half, high = 0.27 * m, 1.15 * m
        upper = ground - tall - 0.2 * m
        c.box(column - half, upper, column + half, upper + high, view.lit((30, 32, 34), z),
              IDS["traffic light"])  # fmt: skip
        on = int(rng.integers(3))
        for number, colour in enumerate(((238, 62, 52), (250, 190, 60), (70, 214, 120))):
            shown = colour if number == on else shade(colour, 0.25)
            c.ellipse(column, upper + (0.2 + 0.37 * number) * m, 0.16 * m, 0.16 * m, shown, None)
    else:
        traffic_sign(view, column, ground - tall, z)


def traffic_sign(view: View, column: float, row: float, z: float) -> None:
    """A round, triangular, square or octagonal sign around a pixel."""
    c, rng, value = view.canvas, view.rng, IDS["traffic sign"]
    r = 0.46 * view.metre / z
    shape = int(rng.integers(4))
    white, red, blue = ((240, 240, 236), (206, 40, 44), (36, 84, 168))
    if shape == 0:
        c.ellipse(column, row, r, r, view.lit(red, z), value)
        c.ellipse(column, row, 0.62 * r, 0.62 * r, view.lit(white, z), value)
    elif shape == 1:
        corners = [(column, row - r), (column + r, row + 0.8 * r), (column - r, row + 0.8 * r)]
        c.polygon(corners, view.lit(red, z), value)
        inner = [(column + 0.55 * (px - column), row + 0.2 * r + 0.55 * (py - row - 0.2 * r))
                 for px, py in corners]  # fmt: skip
        c.polygon(inner, view.lit(white, z), value)
    elif shape == 2:
        c.box(column - r, row - r, column + r, row + r, view.lit(blue, z), value)
        c.box(column - 0.3 * r, row - 0.5 * r, column + 0.3 * r, row + 0.6 * r, view.lit(white, z),
              value)  # fmt: skip
    else:
        angles = np.pi / 8 + np.arange(8) * np.pi / 4
        corners = [(column + r * float(np.cos(a)), row + r * float(np.sin(a))) for a in angles]
        c.polygon(corners, view.lit(red, z), value)
        c.box(column - 0.6 * r, row - 0.14 * r, column + 0.6 * r, row + 0.14 * r,
              view.lit(white, z), value)  # fmt: skip
