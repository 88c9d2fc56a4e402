"""What losses that compare softmax distributions have in common: a temperature."""

from torch import nn

from cwd.errors import CwdError


class Softened(nn.Module):
    """A loss with a temperature T, by which activations are divided before their softmax.

    Args:
        temperature: T, a positive number; the larger, the flatter the distributions.

    Raises:
        CwdError: the temperature isn't positive.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        if isinstance(temperature, str) or not 0 < temperature < float("inf"):
            raise CwdError(f"T={temperature} is no temperature: give a positive number, such as 1.")
        self.temperature = float(temperature)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature:g}"
