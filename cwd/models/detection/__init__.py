"""Detectors: Faster R-CNN, Mask R-CNN, RetinaNet and RepPoints."""
