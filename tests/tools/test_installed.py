"""The package as others get it: a wheel, without the extras, and the losses alone."""

import shutil
import subprocess
import sys
import zipfile

from cwd.system import paths

HEAVY = {"lightning_fabric", "matplotlib", "pandas", "PIL", "pycocotools", "scipy", "timm",
         "torchmetrics", "torchvision"}  # fmt: skip
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
USE = """
import sys
import cwd.losses
print(cwd.__file__)
print(*sys.modules)
from cwd.system.extras import EXTRAS
sys.modules |= dict.fromkeys(EXTRAS, None)  # as if none of them were installed
import cwd.experiments.claims, cwd.training
from cwd.data.scenes import draw
from cwd.experiments.profile import load_profile
from cwd.experiments.records import Records
from cwd.experiments.study import study
from cwd.system import CwdError
print(study("table2", Records(load_profile("quick"))).table().iloc[0, 1])
try:
    draw.rle.encode
except CwdError as error:
    print(error)
"""


def test_a_wheel_is_used_from_another_folder(tmp_path):
    """A wheel of the checkout is unpacked, as pip does."""
    source = tmp_path / "source"  # setuptools writes beside what it builds
    for name in ("cwd", "data/paper"):
        shutil.copytree(paths.ROOT / name, source / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(paths.ROOT / name, source)
    build = [sys.executable, "-c", BUILD, str(tmp_path)]
    subprocess.run(build, check=True, cwd=source, stdout=subprocess.DEVNULL)
    (built,) = tmp_path.glob("cwd-*.whl")
    target, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    zipfile.ZipFile(built).extractall(target)
    elsewhere.mkdir()
    given = {"cwd": elsewhere, "env": {"PYTHONPATH": str(target)}, "text": True}
    done = subprocess.run([sys.executable, "-c", USE], check=True, stdout=subprocess.PIPE, **given)
    place, loaded, number, refused = done.stdout.splitlines()
    assert place == str(target / "cwd/__init__.py")
    # the losses need torch alone
    loaded = loaded.split()
    assert HEAVY & {name.partition(".")[0] for name in loaded} == set()
    ours = {name for name in loaded if name.startswith("cwd.") and "losses" not in name}
    assert ours == {"cwd.system", "cwd.system.errors"}
    assert number == "78.56"  # of the papers' tables, which are packaged
    missing = "this needs pycocotools, which isn't installed: pip install 'cwd[detection]'."
    assert refused == missing
