"""Distillation losses: every one a module called as `loss(student_map, teacher_map, target)`."""

from cwd.losses.channelwise import ChannelWise
from cwd.losses.controls import ChannelMean, Unnormalised
from cwd.losses.holistic import Holistic
from cwd.losses.maps import ChannelAlignment
from cwd.losses.pairwise import IntraClassVariation, LocalAffinity, PairwiseAffinity
from cwd.losses.pointwise import AttentionTransfer, Mimic, PixelWise
from cwd.losses.transformation import ChannelTransformation

__all__ = [
    "AttentionTransfer",
    "ChannelAlignment",
    "ChannelMean",
    "ChannelTransformation",
    "ChannelWise",
    "Holistic",
    "IntraClassVariation",
    "LocalAffinity",
    "Mimic",
    "PairwiseAffinity",
    "PixelWise",
    "Unnormalised",
]
