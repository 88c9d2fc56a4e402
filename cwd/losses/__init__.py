"""Distillation losses: every one a module called as `loss(student_map, teacher_map, target)`.

Maps are [B, C, H, W] of any float type, the student's of any size, and the value is a scalar. No
gradient reaches the teacher. Where the maps differ in batch, or in channels that are compared one
by one, a loss raises `CwdError`; see `cwd.losses.maps.matched`.
"""

from cwd.losses.afdcd import DenseContrast
from cwd.losses.bpkd import BoundaryPrivileged
from cwd.losses.channelwise import ChannelWise
from cwd.losses.cirkd import CrossImageRelations
from cwd.losses.controls import ChannelMean, Unnormalised
from cwd.losses.dist import ClassRelations
from cwd.losses.holistic import Holistic
from cwd.losses.maps import ChannelAlignment
from cwd.losses.mgd import MaskedGeneration
from cwd.losses.pairwise import IntraClassVariation, LocalAffinity, PairwiseAffinity
from cwd.losses.pointwise import AttentionTransfer, Mimic, PixelWise
from cwd.losses.standardised import Standardised
from cwd.losses.transformation import ChannelTransformation

__all__ = [
    "AttentionTransfer",
    "BoundaryPrivileged",
    "ChannelAlignment",
    "ChannelMean",
    "ChannelTransformation",
    "ChannelWise",
    "ClassRelations",
    "CrossImageRelations",
    "DenseContrast",
    "Holistic",
    "IntraClassVariation",
    "LocalAffinity",
    "MaskedGeneration",
    "Mimic",
    "PairwiseAffinity",
    "PixelWise",
    "Standardised",
    "Unnormalised",
]
