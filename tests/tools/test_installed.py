"""The package as others get it: a wheel, and the losses alone."""

import shutil
import subprocess
import sys

import pytest

from cwd.system import paths

HEAVY = {"lightning_fabric", "matplotlib", "pandas", "PIL", "pycocotools", "scipy", "timm",
         "torchmetrics", "torchvision"}  # fmt: skip


def python(code, **options):
    """What a fresh Python prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, **options
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_losses_need_torch_alone():
    loaded = python("import cwd.losses, sys; print(*sys.modules)", cwd=paths.ROOT).split()
    assert HEAVY & {name.partition(".")[0] for name in loaded} == set()
    ours = {name for name in loaded if name.startswith("cwd.") and "losses" not in name}
    assert ours == {"cwd.system", "cwd.system.errors"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A folder in which a wheel of the checkout is unpacked, as pip does."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # setuptools writes beside what it builds
    for name in ("cwd", "data/paper"):
        shutil.copytree(paths.ROOT / name, source / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(paths.ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    given = ["--no-deps", "--no-build-isolation", str(source)]
    subprocess.run([*pip, "wheel", "-w", str(folder), *given], check=True)
    (built,) = folder.glob("cwd-*.whl")
    target = folder / "installed"
    subprocess.run([*pip, "install", "--no-deps", "-t", str(target), str(built)], check=True)
    return target


def test_a_wheel_is_used_from_another_folder(wheel, tmp_path):
    code = (
        "import cwd; from cwd.experiments.study import study; "
        "from cwd.experiments.records import Records;"
        "from cwd.experiments.profile import load_profile; import cwd.experiments.claims;"
        "table = study('table2', Records(load_profile('quick'))).table();"
        "print(cwd.__file__); print(table.iloc[0, 1])"
    )
    shown = python(code, cwd=tmp_path, env={"PYTHONPATH": str(wheel)})
    assert shown.splitlines() == [str(wheel / "cwd/__init__.py"), "78.56"]
