"""What the rest stands on: errors, files and locks, device, several processes."""

from cwd.system.errors import CwdError

__all__ = ["CwdError"]
