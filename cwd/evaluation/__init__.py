"""Measures: mIoU, COCO's AP of boxes and masks, top-1."""

from cwd.evaluation.miou import evaluate

__all__ = ["evaluate"]
