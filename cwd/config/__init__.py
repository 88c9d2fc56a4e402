"""What determines a result: runs, their data and their schedules."""

from cwd.config.run import Data, Run

__all__ = ["Data", "Run"]
