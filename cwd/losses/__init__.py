"""Distillation losses: every one a module called as `loss(student_map, teacher_map, target)`."""

from cwd.losses.alignment import ChannelAlignment
from cwd.losses.channelwise import ChannelWise
from cwd.losses.spatial import PixelWise

__all__ = ["ChannelAlignment", "ChannelWise", "PixelWise"]
