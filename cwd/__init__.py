"""Channel-wise knowledge distillation for dense prediction: a replication that anyone can run."""

import warnings

__version__ = "0.1.0"

# tqdm says this wherever a notebook has no widgets, even when timm imports it; it shows text then
warnings.filterwarnings("ignore", message="IProgress not found")
