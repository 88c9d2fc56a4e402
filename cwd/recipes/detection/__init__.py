"""The other methods of Table 9, one file each, and all of them at work on two detectors."""
