"""Distributions of activations: a temperature, and four ways to compare two of them."""

from torch import Tensor, nn

from cwd.losses.maps import is_number
from cwd.system.errors import CwdError


def kl(log_t: Tensor, log_s: Tensor, dim: int) -> Tensor:
    """KL(t || s) = sum_i t_i log(t_i / s_i)  (eq. 4): large where the teacher is and s isn't."""
    return (log_t.exp() * (log_t - log_s)).sum(dim)


def swapped(log_t: Tensor, log_s: Tensor, dim: int) -> Tensor:
    """KL(s || t), the arguments of eq. 4 exchanged (section 3.2: training does not converge)."""
    return kl(log_s, log_t, dim)


def bhattacharyya(log_t: Tensor, log_s: Tensor, dim: int) -> Tensor:
    """Bhattacharyya distance -log sum_i sqrt(t_i s_i)  (Table 3): symmetric."""
    return -((log_t + log_s) / 2).logsumexp(dim)


def l2(log_t: Tensor, log_s: Tensor, dim: int) -> Tensor:
    """Squared difference sum_i (t_i - s_i)^2  (Table 3): all positions weigh the same."""
    return (log_t.exp() - log_s.exp()).square().sum(dim)


COLDEST, HOTTEST = 1e-4, 1e6  # beyond them float32 has no digits left for a divergence
METRICS = {"kl": kl, "bhattacharyya": bhattacharyya, "l2": l2, "swapped": swapped}


class Softened(nn.Module):
    """A loss with a temperature T, by which activations are divided before their softmax.

    Args:
        temperature: T, a positive number; the larger, the flatter the distributions. Gradients are
            exact to four digits up to 1000 in float32; the value itself is only to a few percent
            there, a difference of nearly equal numbers.
        metric: how two distributions are compared, a key of `METRICS`.

    Raises:
        CwdError: the temperature isn't positive; the metric is unknown.
    """

    def __init__(self, temperature: float = 1.0, metric: str = "kl") -> None:
        super().__init__()
        if not is_number(temperature) or not COLDEST <= temperature <= HOTTEST:
            raise CwdError(
                f"T={temperature} is no temperature: give a positive number, such as 1 (from "
                f"{COLDEST:g} to {HOTTEST:g})."
            )
        if metric not in METRICS:
            raise CwdError(f"metric={metric} is unknown: use one of {', '.join(METRICS)}.")
        self.temperature = float(temperature)
        self.metric = metric

    def extra_repr(self) -> str:
        return f"temperature={self.temperature:g}, metric={self.metric}"
