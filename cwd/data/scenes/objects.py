"""What stands and moves in a street: one function for each kind of thing."""

import numpy as np

from cwd.data.scenes.canvas import CLOTHES, IDS, LEAVES, PAINT, SKIN, Colour, Thing, pick, shade

SIDES = (-1, 1)
# half the width, the height and the length in metres, and the part of the front above the windows
VEHICLES = {
    "truck": (1.2, 3.3, 6.0, 0.3),
    "bus": (1.25, 3.1, 10.0, 0.16),
    "train": (1.3, 3.5, 24.0, 0.18),
}


def car(thing: Thing) -> None:
    """A car from behind or in front."""
    rng = thing.rng
    body, half, tall = pick(rng, PAINT), 0.92, rng.uniform(1.4, 1.75)
    dark, belt = shade(body, 0.7), 0.55 * tall
    thing.shadow(1.15)
    for side in SIDES:
        thing.box(side * 0.68, 0.14, 0, 0.3, (28, 28, 30))
    for top, below, above, colour in ((1, 0.84, 0.62, dark), (0.9, 0.7, 0.54, (88, 108, 128))):
        spans = (-below * half, below * half), (-above * half, above * half)
        thing.slab(belt, top * tall, *spans, colour)
    thing.box(0, half, 0.14 * tall, belt, body)
    thing.box(0, half, 0.12 * tall, 0.26 * tall, dark)
    lamp = (232, 60, 50) if rng.random() < 0.6 else (255, 246, 214)
    for side in SIDES:
        thing.box(side * 0.78 * half, 0.14 * half, 0.36 * tall, 0.48 * tall, lamp)
    thing.box(0, 0.2 * half, 0.2 * tall, 0.3 * tall, (236, 236, 226))


def side_car(thing: Thing) -> None:
    """A car seen from its side, crossing or parked."""
    body, half, tall = pick(thing.rng, PAINT), 2.1, 1.5
    belt = 0.55 * tall
    thing.shadow(2.3)
    thing.slab(belt, tall, (-0.66 * half, 0.62 * half), (-0.4 * half, 0.3 * half), body)
    glass = (-0.54 * half, 0.5 * half), (-0.36 * half, 0.26 * half)
    thing.slab(belt, 0.9 * tall, *glass, (84, 104, 124))
    thing.box(-0.05 * half, 0.03 * half, belt, tall, body)
    thing.box(0, half, 0.18 * tall, belt, body)
    for side in SIDES:
        thing.ellipse(side * 0.62 * half, 0.33, (0.33, 0.33), (26, 26, 28))
        thing.ellipse(side * 0.62 * half, 0.33, (0.16, 0.16), (150, 150, 154))


def tall_vehicle(thing: Thing) -> None:
    """A truck, a bus or a train from the front, with the side that the camera sees."""
    rng, kind, x, z = thing.rng, thing.kind, thing.x, thing.z
    half, tall, length, roof = VEHICLES[kind]
    floor, far = 0.25, z + length * 0.45  # depth is foreshortened
    body = pick(rng, PAINT)
    cargo = (222, 222, 214) if kind == "truck" and rng.random() < 0.6 else shade(body, 0.8)
    thing.shadow(1.15 * half)

    def side(near: float, far: float, low: float, high: float, colour: Colour) -> None:
        inner = x + half if x < 0 else x - half  # towards the middle of the image
        thing.view.panel(inner, (near, far), (low, high), thing.lit(colour), thing.value)

    def front(middle: float, wide: float, low: float, high: float, colour: Colour) -> None:
        rows = (floor + share * (tall - floor) for share in (low, high))
        thing.box(middle * half, wide * half, *rows, colour)

    side(z, far, floor, tall, shade(cargo, 0.75))
    if kind != "truck":
        edges = z * (far / z) ** np.linspace(0.04, 0.96, 10 if kind == "bus" else 18)
        for window in edges.reshape(-1, 2).tolist():
            side(*window, 0.5 * tall, 0.8 * tall, (70, 88, 108))
    if kind == "train":
        side(z, far, 0.32 * tall, 0.4 * tall, (236, 236, 232))
    front(0, 1, 0, 1, body)
    front(0, 0.84, 0.42, 1 - roof, (76, 96, 118))
    if kind == "truck":
        front(0, 1, 0.8, 1, cargo)
    elif kind == "bus":
        front(0, 0.6, 0.88, 0.95, (250, 190, 60))
    else:
        front(0, 1, 0.26, 0.34, (240, 240, 236))
    for left in SIDES:
        front(left * 0.7, 0.18, 0.12, 0.2, (255, 244, 206))
        thing.box(left * 0.7 * half, 0.18 * half, 0, floor, (26, 26, 28))


def person(thing: Thing) -> None:
    """Somebody who stands or walks, or a rider, who has no legs to show."""
    rng, walks = thing.rng, thing.kind == "person"
    if walks:
        thing.shadow(0.45)
    thing.metre *= rng.uniform(0.9, 1.1)
    coat, trousers, skin = pick(rng, CLOTHES), shade(pick(rng, CLOTHES), 0.6), pick(rng, SKIN)
    hips, shoulders = (0.82, 1.45) if walks else (0.1, 0.72)
    foot, stride, thick = (0, rng.uniform(0.02, 0.26), 0.19) if walks else (-0.4, 0.16, 0.17)
    for side in SIDES:
        hip = side * (0.08 if walks else 0.1), hips
        thing.line(hip, (side * stride, foot), trousers, thick)
    swing, sleeve = rng.uniform(0.0, 0.16), shade(thing.lit(coat), 0.85)
    for side in SIDES:
        arm = thing.at(side * 0.24, shoulders - 0.06), thing.at(side * (0.28 + swing), hips)
        thing.view.line(*arm, sleeve, thing.value, 0.13 * thing.metre)
    thing.slab(hips - 0.06, shoulders, (-0.2, 0.2), (-0.26, 0.26), coat)
    thing.ellipse(0, shoulders + 0.16, (0.14, 0.17), skin)
    hair = pick(rng, ((60, 42, 30), (30, 28, 28), (150, 110, 60), (200, 60, 50)))
    thing.ellipse(0, shoulders + 0.23, (0.145, 0.11), hair)


def two_wheeler(thing: Thing, *, ridden: bool) -> None:
    """A bicycle or a motorcycle from the side, with or without its rider."""
    pedals = thing.kind == "bicycle"
    hub, reach, thick = (0.36, 0.55, 0.09) if pedals else (0.33, 0.68, 0.24)
    frame, tyre = pick(thing.rng, PAINT), (30, 30, 32)
    thing.shadow(0.9)
    if ridden:
        person(Thing(thing.view, thing.x, thing.z, "rider", lift=0.9))
    for side in SIDES:
        thing.ellipse(side * reach, hub, (hub, hub), tyre, rim=0.09 if pedals else 0)
        if not pedals:
            thing.ellipse(side * reach, hub, (hub / 2, hub / 2), (130, 130, 130))
    seat, bar, crank = (-0.25, hub + 0.5), (0.42, hub + 0.6), (0, hub)
    for a, b in (((-reach, hub), crank), (crank, seat), (crank, bar), (seat, bar)):
        thing.line(a, b, frame, thick)
    thing.line(bar, (reach, hub), frame, thick * 0.8)
    if not pedals:
        thing.ellipse(0.1, hub + 0.42, (0.32, 0.18), frame)
        thing.ellipse(0, hub, (0.26, 0.2), (70, 70, 76))
    thing.line((seat[0] - 0.16, seat[1]), (seat[0] + 0.16, seat[1]), tyre, 0.1)


def tree(thing: Thing) -> None:
    """A trunk and a crown of overlapping leaves."""
    rng = thing.rng
    leaf, tall = pick(rng, LEAVES), rng.uniform(4.0, 6.5)
    thing.shadow(1.2)
    thing.box(0, 0.14, 0, 0.55 * tall, (92, 72, 56))
    for _ in range(9):
        x, down, r = rng.normal(0, 0.75), rng.uniform(-0.26, 0.2), rng.uniform(0.6, 1.1)
        colour = shade(leaf, rng.uniform(0.72, 1.25) - 0.3 * down)
        thing.ellipse(x, (0.72 - down) * tall, (r, 0.85 * r), colour)


def lamp(thing: Thing) -> None:
    """A street lamp, whose arm reaches over the road."""
    metal, arm, tall = _post(thing, 5.5), -1.4 * float(np.sign(thing.x)), 5.5
    thing.line((0, tall), (arm, tall), metal, 0.12)
    thing.box(arm, 0.3, tall - 0.16, tall, (252, 244, 210))


def traffic_light(thing: Thing) -> None:
    """A traffic light on a pole, one of its three lights on."""
    tall = thing.rng.uniform(2.9, 3.6)
    _post(thing, tall)
    thing.value = IDS["traffic light"]
    thing.box(0, 0.27, tall - 0.95, tall + 0.2, (30, 32, 34))
    on, r = int(thing.rng.integers(3)), 0.16 * thing.metre
    for number, colour in enumerate(((238, 62, 52), (250, 190, 60), (70, 214, 120))):
        shown = colour if number == on else shade(colour, 0.25)
        thing.view.ellipse((*thing.at(0, tall - 0.37 * number), r, r), shown, None)


def traffic_sign(thing: Thing) -> None:
    """A round, triangular, square or octagonal sign on a pole."""
    up, r = thing.rng.uniform(2.9, 3.6), 0.46
    _post(thing, up)
    thing.value, shape = IDS["traffic sign"], int(thing.rng.integers(4))
    white, red, blue = (240, 240, 236), (206, 40, 44), (36, 84, 168)
    if shape == 0:
        thing.ellipse(0, up, (r, r), red)
        thing.ellipse(0, up, (0.62 * r, 0.62 * r), white)
    elif shape == 1:
        for top, half, bottom, colour in ((1, 1, 0.8, red), (0.46, 0.55, 0.53, white)):
            low = up - bottom * r
            thing.polygon([(0, up + top * r), (half * r, low), (-half * r, low)], colour)
    elif shape == 2:
        thing.box(0, r, up - r, up + r, blue)
        thing.box(0, 0.3 * r, up - 0.6 * r, up + 0.5 * r, white)
    else:
        angles = (np.pi / 8 + np.arange(8) * np.pi / 4).tolist()
        thing.polygon([(r * np.cos(a), up - r * np.sin(a)) for a in angles], red)
        thing.box(0, 0.6 * r, up - 0.14 * r, up + 0.14 * r, white)


def _post(thing: Thing, tall: float) -> Colour:
    metal = pick(thing.rng, ((112, 114, 118), (70, 78, 74), (150, 148, 140)))
    thing.line((0, 0), (0, tall), metal, 0.16)
    return metal
