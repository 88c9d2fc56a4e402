"""What an extra brings is asked for when it is used, and in a sentence."""

import subprocess
import sys

from cwd.system import paths
from cwd.system.extras import EXTRAS

USE = """
import sys
sys.modules |= dict.fromkeys({names}, None)  # as if none of them were installed
import cwd.experiments.claims, cwd.training
from cwd.data.scenes import draw
from cwd.system import CwdError
try:
    draw.rle.encode
except CwdError as error:
    print(error)
"""


def test_the_core_does_without_extras():
    names = sorted(EXTRAS)
    code = USE.format(names=names)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=paths.ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout == (
        "this needs pycocotools, which isn't installed: pip install 'cwd[detection]'.\n"
    )
