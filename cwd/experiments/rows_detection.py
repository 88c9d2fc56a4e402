"""Table 9: three kinds of detector, alone and distilled, ours beside the paper's."""

from functools import partial

from cwd.experiments.profile import Profile
from cwd.experiments.table import Row, Table, paper

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


def label_of(detector: str, method: str) -> str:
    """A row's label, "RetinaNet: CWD"."""
    return f"{detector}: {method}"


def table9(profile: Profile) -> tuple[Row, ...]:
    """The rows of Table 9, each detector's teacher before its students.

    The paper prints nothing of its teachers. Where the profile lacks a detector, rows have no runs.
    """
    pairs = {pair.name: pair for pair in profile.detection.pairs} if profile.detection else {}
    rows = []
    for detector, lines in printed().groupby("detector", sort=False):
        pair, alone = pairs.get(detector), label_of(detector, "student")
        teacher = {"detector": detector, "method": "teacher"}
        for line in (teacher, *lines.to_dict("records")):
            method, runs, network = line["method"], (), ""
            if pair and line is teacher:
                runs, network = (pair.teacher,), pair.teacher.network
            elif pair:
                seeds, network = profile.detection.seeds, pair.student.network
                runs = tuple(profile.run(METHODS[method], seed, pair.student) for seed in seeds)
            student = None if method in ("teacher", "student") else alone
            label, more = label_of(detector, method), {"network": network}
            rows.append(Row(label, line.get("ap"), runs, student=student, printed=line | more))
    return tuple(rows)


TABLE_9 = Table(
    table9,
    # it can be cited as a whole
    lambda profile: profile.student is not None or profile.detection is not None,
    {
        "our network": "network",
        "paper AP": "paper",
        "paper gain": "paper gain",
        "our AP ({data})": "our ap",
        "sd": "sd",
        "seeds": "seeds",
        "our gain": "paired gain",
        "gain sd": "gain sd",
        **{
            title: name
            for key, word in list(MEASURES.items())[1:]
            for title, name in ((f"paper {word}", key), (f"our {word}", f"our {key}"))
        },
        "status": "status",
    },
    index=("detector", "method"),
    measures=tuple(MEASURES),
)
