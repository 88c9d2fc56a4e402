"""Table 9: three kinds of detector, alone and distilled, ours beside the paper's."""

from cwd.experiments.profile import Profile
from cwd.experiments.table import Row, pair_rows, paper

# the table's methods as recipes
METHODS = {
    "student": "",
    "Chen et al.": "Chen",
    "Wang et al.": "Wang",
    "Heo et al.": "Heo",
    "Zhang et al.": "Zhang",
    "CWD": "CW_fpn",
}
# COCO's measures: our keys, which are the columns of the paper's table too, and how people write
MEASURES = {m.lower(): m for m in ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L")}


def table9(profile: Profile) -> tuple[Row, ...]:
    """The rows of Table 9, each detector's teacher before its students.

    The paper prints nothing of its teachers. Where the profile lacks a detector, rows have no runs.
    """
    part, rows = profile.detection, []
    pairs = {pair.name: pair for pair in part.pairs} if part else {}
    for detector, lines in paper("table9_detection").groupby("detector", sort=False):
        numbers = lines.set_index("method").drop(columns="detector")
        known = numbers.assign(number=numbers["ap"]).to_dict("index")
        recipes, seeds = {method: METHODS[method] for method in known}, part.seeds if part else ()
        pair = pairs.get(detector)
        rows += pair_rows(profile, {"detector": detector}, pair, recipes, seeds, known)
    return tuple(rows)
