"""The package as others get it: a wheel, and the losses alone."""

import shutil
import subprocess
import sys

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


def test_a_wheel_is_used_from_another_folder(tmp_path):
    """A wheel of the checkout is unpacked, as pip does."""
    source = tmp_path / "source"  # setuptools writes beside what it builds
    for name in ("cwd", "data/paper"):
        shutil.copytree(paths.ROOT / name, source / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(paths.ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    given = ["--no-deps", "--no-build-isolation", str(source)]
    subprocess.run([*pip, "wheel", "-w", str(tmp_path), *given], check=True)
    (built,) = tmp_path.glob("cwd-*.whl")
    target, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    subprocess.run([*pip, "install", "--no-deps", "-t", str(target), str(built)], check=True)
    elsewhere.mkdir()
    code = (
        "import cwd; from cwd.experiments.study import study; "
        "from cwd.experiments.records import Records;"
        "from cwd.experiments.profile import load_profile; import cwd.experiments.claims;"
        "table = study('table2', Records(load_profile('quick'))).table();"
        "print(cwd.__file__); print(table.iloc[0, 1])"
    )
    shown = python(code, cwd=elsewhere, env={"PYTHONPATH": str(target)})
    assert shown.splitlines() == [str(target / "cwd/__init__.py"), "78.56"]
