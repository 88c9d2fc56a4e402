"""RepPoints' rules in plain Python, object after object, as mmdetection has them."""

import math


def plain_iou(a, b):
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b))
    return width * height / (areas - width * height)


def plain_nearest(boxes, places):
    """PointAssigner: the object of each cell that has one.

    Args:
        boxes: left, top, right and bottom of each object.
        places: x and y of each cell, and its stride.
    """
    owner, levels = {}, [int(math.log2(stride)) for _, stride in places]
    for k, (left, top, right, bottom) in enumerate(boxes):
        w, h = right - left, bottom - top
        level = int((math.log2(w / 4) + math.log2(h / 4)) / 2)
        level = min(max(level, min(levels)), max(levels))
        gap, i = min(
            (math.hypot((x - (left + right) / 2) / w, (y - (top + bottom) / 2) / h), i)
            for i, ((x, y), stride) in enumerate(places)
            if stride == 2**level
        )
        if i not in owner or gap < owner[i][0]:
            owner[i] = gap, k
    return {i: k for i, (_, k) in owner.items()}


def plain_best(candidates, boxes):
    """MaxIoUAssigner, but for objects that no candidate overlaps: an object, -1 or -2 for each."""
    if not boxes:
        return [-1] * len(candidates)
    table, found = [[plain_iou(b, c) for c in candidates] for b in boxes], []
    for column in zip(*table, strict=True):
        best = max(column)
        found.append(column.index(best) if best >= 0.5 else -1 if best < 0.4 else -2)
    for k, row in enumerate(table):
        for i, value in enumerate(row):
            if value == max(row) > 0:
                found[i] = k
    return found
