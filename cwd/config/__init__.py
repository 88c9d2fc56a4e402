"""What determines a result: runs, their data and their schedules."""

from cwd.config.run import Data, Run
from cwd.config.schedule import BaseSchedule, ClassificationSchedule, DetectionSchedule, Schedule

__all__ = ["BaseSchedule", "ClassificationSchedule", "Data", "DetectionSchedule", "Run", "Schedule"]
