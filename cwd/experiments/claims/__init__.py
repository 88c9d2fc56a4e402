"""What the papers claim, and what the runs say."""

from cwd.experiments.claims.judging import verdicts

__all__ = ["verdicts"]
