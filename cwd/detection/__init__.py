"""The detection appendix: Table 9 on torchvision's Faster R-CNN and RetinaNet, and on RepPoints."""
