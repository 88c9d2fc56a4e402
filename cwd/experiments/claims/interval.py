"""A comparison that was measured, and the interval that decides about it."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from scipy.special import stdtrit

LEVEL = 0.95
PERCENT = ("mIoU", "AP", "mask AP", "top-1")  # units that can share an axis


@dataclass(frozen=True)
class Finding:
    """One comparison of a claim, measured."""

    what: str  # which two things were compared
    differences: Sequence[float]  # one a seed (or repeat), in `unit`; none where runs are missing
    paper: float | None = None  # the paper's difference; None where it prints none
    margin: float | None = None  # None for "greater than 0", else the claim is "within it"
    unit: str = "mIoU"  # a task's, in percent (`PERCENT`), "AUC", "log ratio" or "per mIoU"

    @property
    def mean(self) -> float:
        """Mean difference."""
        return statistics.mean(self.differences)

    @property
    def sd(self) -> float:
        """Sample standard deviation, nan for one difference."""
        return statistics.stdev(self.differences) if len(self.differences) > 1 else math.nan

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Student's t interval of the mean; unbounded for one difference."""
        n = len(self.differences)
        if n < 2:
            return -math.inf, math.inf
        # not t.interval, which gives nan where all differences are equal
        half = stdtrit(n - 1, (1 + level) / 2) * self.sd / math.sqrt(n)
        return self.mean - half, self.mean + half

    @property
    def slack(self) -> tuple[float, float]:
        """How far the interval, and then the mean, are on the claim's side: the least decides.

        The interval is on that side if the first is above 0.
        """
        low, high = self.interval()
        if self.margin is None:
            return low, self.mean
        return self.margin - max(-low, high), self.margin - abs(self.mean)

    def fails(self, comparisons: int) -> bool:
        """The interval is on the other side, at 95 % for that many comparisons together."""
        low, high = self.interval(1 - (1 - LEVEL) / comparisons)
        return high < 0 if self.margin is None else low > self.margin or high < -self.margin


def paired(what: str, ones: pd.Series, others: pd.Series | float, **about: Any) -> Finding:
    """One thing's measure minus another's, over the seeds that both have."""
    return Finding(what, (ones - others).dropna().tolist(), **about)
