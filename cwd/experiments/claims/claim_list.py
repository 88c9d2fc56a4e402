"""What the paper claims, sentence by sentence, and which runs would show it."""

from dataclasses import dataclass
from typing import Any

from cwd.experiments.claims.comparisons import (
    Channels,
    Cheaper,
    Classes,
    Detectors,
    Greater,
    Kinds,
    OtherData,
    Pretrained,
    Salience,
    Slopes,
    Students,
    Tasks,
    Within,
)
from cwd.experiments.rows_transformation import TASKS

SPATIAL = ("MIMIC", "AT", "PI", "LOCAL", "PA", "IFV", "HO")
FEATURE = tuple(f"{symbol}_f" for symbol in SPATIAL if symbol != "HO")
SCORE = tuple(f"{symbol}_s" for symbol in SPATIAL)
ALONE = ""  # the recipe of the student without a teacher


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        text: in our words.
        where: the section, table or figure.
        test: what would show it, one of the classes of `cwd.experiments.claims.comparisons`.
        needs: what is missing where it wasn't run.
    """

    text: str
    where: str
    test: Any
    needs: str = "its runs: make reproduce under this profile"


TABLE_6 = "runs of all students: make reproduce under this profile"
DETECTORS = "runs of detectors: make reproduce under a profile that has them"
CLAIMS = (
    Claim("CW improves the student, on either map", "Table 2", Greater(("CW_f", "CW_s"), (ALONE,))),
    Claim(
        "every distillation method improves the student",
        "section 3.3",
        Greater((*FEATURE, *SCORE, "CW_f", "CW_s"), (ALONE,)),
    ),
    Claim(
        "on the feature map, CW beats each spatial method",
        "abstract, section 3.3, Table 2",
        Greater(("CW_f",), FEATURE),
    ),
    Claim(
        "on the score map, CW beats each spatial method",
        "abstract, section 3.3, Table 2",
        Greater(("CW_s",), SCORE),
    ),
    Claim(
        "CW works better on the feature map than on the score map",
        "section 3.3",
        Greater(("CW_f",), ("CW_s",)),
    ),
    Claim(
        "normalising each channel helps: CW beats the raw maps and the channels' means",
        "sections 1.1, 2.2",
        Greater(("CW_f",), ("RAW_f", "CD_f")),
    ),
    Claim(
        "KL beats the Bhattacharyya distance",
        "Table 3",
        Greater(("CW_f",), ("CW_f(metric=bhattacharyya)",)),
    ),
    Claim("KL beats L2", "Table 3", Greater(("CW_f",), ("CW_f(metric=l2)",))),
    Claim(
        "the Bhattacharyya distance beats L2",
        "Table 3",
        Greater(("CW_f(metric=bhattacharyya)",), ("CW_f(metric=l2)",)),
    ),
    Claim(
        "with KL's arguments swapped the training does not converge: worse than no teacher",
        "section 3.2",
        Greater((ALONE,), ("CW_f(metric=swapped)",)),
    ),
    Claim(
        "T = 1 is the best temperature",
        "section 3.2, Figure 3",
        Greater(("CW_f",), tuple(f"CW_f(T={t})" for t in ("0.01", "0.1", "10", "100", "1000"))),
    ),
    Claim(
        "around T = 1 the result is stable (here: within 1 % for T from 0.1 to 10)",
        "section 3.2, Figure 3",
        Within("CW_f", ("CW_f(T=0.1)", "CW_f(T=10)"), 1.0),
    ),
    Claim(
        "an extremely small temperature costs a lot (T = 0.01)",
        "section 3.2, Figure 3",
        Greater(("CW_f",), ("CW_f(T=0.01)",)),
    ),
    Claim(
        "the result is not sensitive to the loss weight (here: within 1 % from 10 to 50)",
        "section 3.2, Figure 3",
        Within("CW_f", tuple(f"CW_f(weight={w})" for w in (10, 20, 50)), 1.0),
    ),
    Claim(
        "CW improves traffic light, terrain, wall, truck, bus and train over PA and IFVD",
        "section 3.3, Table 4",
        Classes(
            "CW_f",
            ("PA_f", "IFV_f"),
            ("traffic light", "terrain", "wall", "truck", "bus", "train"),
        ),
        "a dataset with these classes",
    ),
    Claim(
        "CW on both maps is better than on the feature map alone",
        "Table 5",
        Greater(("CW_s + CW_f",), ("CW_f",)),
    ),
    Claim(
        "CW adds to PI + HO",
        "section 3.3, Table 5",
        Greater(("PI + HO + CW_f",), ("PI + HO",)),
    ),
    Claim(
        "beside PI + HO, CW is worth more than PA and than IFVD",
        "section 3.3, Table 5",
        Greater(("PI + HO + CW_f",), ("PI + HO + PA_f", "PI + HO + IFV_f")),
    ),
    Claim(
        "all together, PI + HO + CW_s + CW_f, is the best combination",
        "Table 5",
        Greater(
            ("PI + HO + CW_s + CW_f",),
            ("PI + HO", "PI + HO + PA_f", "PI + HO + IFV_f", "CW_s + CW_f", "PI + HO + CW_f"),
        ),
    ),
    Claim(
        "CW costs less time than pair-wise affinity at full resolution and than the critic",
        "section 3.3, Table 2",
        Cheaper("CW_f", ("PA_f(pool_scale=0)", "HO")),
        "notebook 05",
    ),
    Claim(
        "CW costs less time than each spatial method as published",
        "abstract, section 3.3",
        Cheaper("CW_f", ("MIMIC_f", "AT_f", "PI", "LOCAL_f", "PA_f", "IFV_f", "HO")),
        "notebook 05",
    ),
    Claim(
        "CW costs as much as MIMIC (here: within a factor of 2)",
        "section 3.3, Table 2",
        Cheaper("CW_f", ("MIMIC_f",), margin=0.6931),
        "notebook 05",
    ),
    Claim(
        "CW on the feature map helps on every dataset (here: scenes and CamVid)",
        "section 3.4, Tables 6 to 8",
        OtherData("CW_f"),
        "recorded results of a second dataset",
    ),
    Claim(
        "CW on the score map helps on every dataset (here: scenes and CamVid)",
        "section 3.4, Tables 6 to 8",
        OtherData("CW_s"),
        "recorded results of a second dataset",
    ),
    Claim(
        "beside PI + HO, CW beats PA and IFVD for every student",
        "section 3.4, Table 6",
        Students((("CWD", "SKDS"), ("CWD", "IFVD"))),
        TABLE_6,
    ),
    Claim(
        "CWD (PI + HO + CW_f) improves every student",
        "section 3.4, Table 6",
        Students((("CWD", "student"),)),
        TABLE_6,
    ),
    Claim(
        "the gain is larger for students of the teacher's kind (here: PSPNet-R18s)",
        "section 3.4, Table 6",
        Kinds("PSPNet-R18"),
        TABLE_6,
    ),
    Claim(
        "a better student is distilled to a better result, by a smaller gain",
        "section 3.4, Table 6",
        Slopes(),
        TABLE_6,
    ),
    Claim(
        "a student that starts from ImageNet is distilled to a better result",
        "section 3.4, Table 6",
        Pretrained(),
        "ImageNet weights, and a student with and without them",
    ),
    Claim(
        "the student copies the salient positions of a channel rather than its background",
        "section 2.2",
        Salience("CW_s"),
        "notebook 04",
    ),
    Claim(
        "the teacher's channels mark their class more clearly than the student's",
        "section 2.2, Figure 2",
        Channels("teacher", (ALONE,)),
        "notebook 04",
    ),
    Claim(
        "CW's channels mark their class more clearly than AT's and than the student's",
        "section 3.3, Figures 6 and 8",
        Channels("CW_f", ("AT_f", ALONE)),
        "notebook 04",
    ),
    Claim(
        "CW improves detectors of three kinds",
        "supplement S5, Table 9",
        Detectors(("student",)),
        DETECTORS,
    ),
    Claim(
        "on detectors, CW consistently beats the other distillation methods",
        "Table 9",
        Detectors(("Chen et al.", "Wang et al.", "Heo et al.", "Zhang et al.")),
        DETECTORS,
    ),
    *(
        Claim(
            f"channel-wise transformation improves a network for {task}",
            "the second paper's abstract",
            Tasks("CT", "student", (task,)),
            "such networks: make reproduce under a profile that has them",
        )
        for task in TASKS
    ),
    Claim(
        "maps gain more transformed than as MIMIC matches them (linearly where widths differ)",
        "the second paper's abstract",
        Tasks("CT", "MIMIC", TASKS),
        "runs of all four tasks: make reproduce under a profile that has them",
    ),
)  # fmt: skip
