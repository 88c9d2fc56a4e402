"""A dataset of one's own: images and label images by split, and classes in a table."""

import re
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cwd.data.base import visible
from cwd.data.segmentation import IGNORED, INVALID, Layout, Pairs, complete
from cwd.system.errors import CwdError

IMAGES = (".jpg", ".jpeg", ".png", ".webp")
TABLE, COLUMNS = "classes.csv", ("index", "name", "colour", "ignored")
LAYOUT_WORDS = (
    "put images into images/{train,val}/, label images of the same names into labels/{train,val}/, "
    "and the classes into classes.csv, see data/README.md."
)


def pairs(root: Path, split: str) -> Pairs:
    """Image and label files, which have the same place and stem in images/ and in labels/."""
    images, labels = root / "images" / split, root / "labels" / split
    found = [path for path in visible(images, "**/*") if path.suffix.lower() in IMAGES]
    both = [(path, labels / path.relative_to(images).with_suffix(".png")) for path in found]
    (label, times), *_ = Counter(label for _, label in both).most_common(1) or [("", 0)]
    if times > 1:
        raise CwdError(f"{label} is the label of {times} images: give each a name of its own.")
    if alone := [image for image, label in both if not label.is_file()]:
        raise CwdError(
            f"{alone[0]} has no label in {labels} ({len(alone)} such images of {len(both)}): label "
            "them, or move them out of images/."
        )
    return complete(both, visible(labels, "**/*.png"))


def read_classes(root: Path) -> dict[str, Any]:
    """What classes.csv says, as fields of a `Layout`; damaged or missing, it is a `CwdError`.

    Its columns are index (the value in label images), name, colour (#rrggbb) and ignored (yes or
    no). Classes that aren't ignored get train ids in the order of their indices.
    """
    path = root / TABLE
    try:
        content = path.read_bytes()
        with warnings.catch_warnings(action="error"):  # of a line with more than the columns
            table = pd.read_csv(
                path, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False
            )
    except (OSError, ValueError, pd.errors.ParserWarning) as error:
        raise CwdError(f"{path} can't be read ({error}): {LAYOUT_WORDS}") from error

    def wrong(what: str) -> CwdError:
        return CwdError(f"{path} has {what}: a line is such as `7,road,#804080,no`.")

    if tuple(table.columns) != COLUMNS:
        raise wrong(f"the columns {','.join(map(str, table.columns))}, not {','.join(COLUMNS)}")
    mapping, colours, names, palette = np.full(256, INVALID, np.uint8), {}, [], []
    mapping[IGNORED] = IGNORED
    for column in ("index", "name", "colour"):
        if twice := table.loc[table[column].duplicated() & (table[column] != ""), column].tolist():
            raise wrong(f"the {column} {twice[0]} twice")
    if odd := [text for text in table["index"] if not re.fullmatch(r"\d{1,3}", text, re.ASCII)]:
        raise wrong(f"the index {odd[0]!r}, expected 0 to 255")
    for row in (
        table.assign(index=table["index"].astype(int)).sort_values("index").itertuples(index=False)
    ):
        ignored = row.ignored == "yes"
        if row.index > IGNORED or not (row.name and row.ignored in ("yes", "no")):
            raise wrong(f"{row.index},{row.name},{row.colour},{row.ignored}")
        if re.fullmatch("#[0-9a-fA-F]{6}", row.colour):
            colours[int(row.colour[1:], 16)] = row.index
        elif row.colour or not ignored:
            raise wrong(f"the colour {row.colour!r} for {row.name}")
        mapping[row.index] = IGNORED if ignored else len(names)
        if not ignored:
            names.append(row.name)
            palette.append([*bytes.fromhex(row.colour[1:])])
    if not 2 <= len(names) < INVALID:
        raise wrong(f"{len(names)} classes that aren't ignored, expected 2 to {INVALID - 1}")
    return {
        "classes": tuple(names),
        "palette": np.array(palette, np.uint8),
        "mapping": mapping,
        "colours": colours,
        "table": content,
    }


LAYOUT = Layout(
    classes=(),
    palette=np.zeros((0, 3), np.uint8),
    mapping=np.full(256, INVALID, np.uint8),
    pairs=pairs,
    own=True,
    folders=("folder",),
    markers=("labels",),
    remedy=LAYOUT_WORDS,
    typical=(512, 512),
)
