"""Channel-wise knowledge distillation for dense prediction: a replication that anyone can run."""

__version__ = "0.1.0"
