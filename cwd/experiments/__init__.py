"""From a profile to a table beside the paper's: profile, study, run, result."""

from cwd.experiments.profile import Profile, load_profile
from cwd.experiments.study import STUDIES, Study, every_run, study
from cwd.experiments.workspace import Workspace, open_profile

__all__ = ["STUDIES", "Profile", "Study", "Workspace", "every_run", "load_profile", "open_profile",
           "study"]  # fmt: skip
