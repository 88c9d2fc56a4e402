"""Table 9: three kinds of detector, alone and distilled, ours beside the paper's."""

from functools import partial

from cwd.experiments.profile import Profile
from cwd.experiments.table import Row, label_of, method_row, paper

__all__ = ["MEASURES", "METHODS", "label_of", "printed", "table9"]
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
MEASURES = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_s": "AP_S",
    "ap_m": "AP_M",
    "ap_l": "AP_L",
}
printed = partial(paper, "table9_detection")  # the paper's lines


def table9(profile: Profile) -> tuple[Row, ...]:
    """The rows of Table 9, each detector's teacher before its students.

    The paper prints nothing of its teachers. Where the profile lacks a detector, rows have no runs.
    """
    pairs = {pair.name: pair for pair in profile.detection.pairs} if profile.detection else {}
    rows = []
    for detector, lines in printed().groupby("detector", sort=False):
        pair, runs, network = pairs.get(detector), (), ""
        if pair:
            runs, network = (pair.teacher,), pair.teacher.network
        rows.append(method_row(detector, "teacher", runs, None, detector=detector, network=network))
        for line in lines.to_dict("records"):
            if pair:
                recipe, seeds = METHODS[line["method"]], profile.detection.seeds
                runs = tuple(profile.run(recipe, seed, pair.student) for seed in seeds)
            line["network"] = pair.student.network if pair else ""
            rows.append(method_row(detector, line.pop("method"), runs, line["ap"], **line))
    return tuple(rows)
