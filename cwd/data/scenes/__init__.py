"""The embedded dataset: drawn street scenes."""

from cwd.data.scenes.draw import draw_scene

__all__ = ["draw_scene"]
