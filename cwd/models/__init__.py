"""The networks, by name: segmentation here, `detection` in its folder, and classifiers."""

from cwd.models.segmentation import build_network

__all__ = ["build_network"]
