"""Datasets: found, checked, decoded, augmented, put into batches."""

from cwd.data.datasets import build_dataset

__all__ = ["build_dataset"]
