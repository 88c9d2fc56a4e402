"""Logit standardisation: KD that leaves the size of the scores to the student."""

from torch import Tensor

from cwd.losses.maps import Target, matched
from cwd.losses.pairwise import SHORTEST
from cwd.losses.pointwise import PixelWise


class Standardised(PixelWise):
    """LSKD (Sun et al., CVPR 2024), pixel by pixel: PI of standardised scores.

        z(y)_c = (y_c - mean) / (1e-7 + sd),      mean and sd over the C classes of a position
        loss = PI of z(s) and z(t), eq. 6

    The published code is for classification, at T = 2 and weight 9, and so these are guesses for
    segmentation. Its sd divides by C - 1. Where all scores are equal z is zero, without a gradient.

    Args:
        temperature: T.

    Shape:
        student_map and teacher_map [B, C, H, W] to a scalar; `target` is not used.

    Cost:
        That of PI.
    """

    def __init__(self, temperature: float = 2.0) -> None:
        super().__init__(temperature)

    def forward(self, student_map: Tensor, teacher_map: Tensor, target: Target = None) -> Tensor:
        return super().forward(*map(standardised, matched(student_map, teacher_map)))


def standardised(x: Tensor) -> Tensor:
    """z of [B, C, H, W], see `Standardised`."""
    centred = x - x.mean(dim=1, keepdim=True)
    variance = centred.square().sum(dim=1, keepdim=True) / (x.shape[1] - 1)
    sd = variance.clamp_min(SHORTEST**2).sqrt()
    return centred * (sd > SHORTEST) / (1e-7 + sd)
