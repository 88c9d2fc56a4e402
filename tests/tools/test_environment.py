"""The environment's files agree with each other, and `make` does what it says."""

import os
import re
import subprocess
import tomllib
from itertools import chain

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cwd.system import paths


def pins(lines):
    """{name: version} of the lines that pin a package."""
    found = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in found}


def test_the_lock_pyproject_and_conda_agree():
    lines = (paths.ROOT / "requirements.lock").read_text().splitlines()
    # no paths, hosts, options or local versions (+cu130): these differ between machines
    pin = re.compile(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*")
    assert [line for line in lines if not line.startswith("#") and not pin.fullmatch(line)] == []
    lock = pins(lines)
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]
    asked = chain(project["dependencies"], *project["optional-dependencies"].values())
    direct = {canonicalize_name(r.name): r.specifier for r in map(Requirement, asked)}
    assert set(direct) <= set(lock)
    assert {n: lock[n] for n, wanted in direct.items() if lock[n] not in wanted} == {}
    conda = yaml.safe_load((paths.ROOT / "environment.yml").read_text())["dependencies"]
    (pip,) = [entry["pip"] for entry in conda if isinstance(entry, dict)]
    assert pins(pip) == {name: lock[name] for name in direct}
    # the rest of the lock binds too, and the package itself is installed
    assert {"-c requirements.lock", "-e ."} <= set(pip)


def make(*arguments):
    # a make that called pytest has left its own settings in the environment
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    given = {"cwd": paths.ROOT, "env": variables, "text": True}
    return subprocess.run(["make", *arguments], check=True, stdout=subprocess.PIPE, **given).stdout


def test_make_alone_lists_every_target():
    (phony,) = re.findall(r"^\.PHONY: (help .*)$", (paths.ROOT / "Makefile").read_text(), re.M)
    listed = re.findall(r"^make (\w+) +\S", make(), re.M)
    assert sorted([*listed, "help"]) == sorted(phony.split())


def test_variables_reach_the_command():
    said = make("-n", "reproduce", "PROFILE=a", "DATA_ROOT=b c", "SEEDS=0,1", "DEVICE=cpu")
    for option in ('--profile "a"', '--data-root "b c"', '--seeds "0,1"', '--device "cpu"'):
        assert option in said


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ("", ""), ("ALL=1", "all"), ("ALL=0", ""), ("FRESH=no", ""), ("MODE=fresh", "fresh"),
        ("MODE=all ALL=yes", "all"),
        ("ALL=1 FRESH=1", "all fresh"), ("ALL=maybe", "maybe"),  # which `reproduce` refuses
    ],
)  # fmt: skip
def test_modes_reach_the_command(given, mode):
    said = make("-n", "reproduce", "first", *given.split())
    assert said.count(f'--mode "{mode}"') == 2


def test_continuous_integration_runs_the_test_command():
    script = paths.ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "exec make test\n" in script.read_text()
