"""Distillation losses: every one a module called as `loss(student_map, teacher_map, target)`."""

from cwd.losses.alignment import ChannelAlignment
from cwd.losses.channelwise import ChannelWise
from cwd.losses.controls import ChannelMean, Unnormalised
from cwd.losses.holistic import Holistic
from cwd.losses.spatial import AttentionTransfer, Mimic, PixelWise
from cwd.losses.structural import IntraClassVariation, LocalAffinity, PairwiseAffinity
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
