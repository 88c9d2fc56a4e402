"""Instance segmentation as a task: detection, and a mask of every object."""

from dataclasses import replace
from functools import partial

from cwd.training.tasks.detection import DETECTION, open_data

INSTANCE = replace(
    DETECTION, measure="mask_ap", unit="mask AP", open_data=partial(open_data, masks=True)
)
