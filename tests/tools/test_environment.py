"""The environment's files agree with each other, and `make` does what it says."""

import json
import os
import re
import statistics
import subprocess
import tomllib

import pandas as pd
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cwd.experiments.profile import load_profile
from cwd.experiments.rows_pairs import pairs_of
from cwd.system import paths


def pins(lines):
    """{name: version} of the lines that pin a package."""
    found = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in found}


@pytest.fixture(scope="module")
def lock():
    return pins((paths.ROOT / "requirements.lock").read_text().splitlines())


@pytest.fixture(scope="module")
def conda():
    return yaml.safe_load((paths.ROOT / "environment.yml").read_text())["dependencies"]


@pytest.fixture(scope="module")
def direct():
    """What pyproject.toml asks for, extras included."""
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    lines = [*project["dependencies"], *(line for extra in extras for line in extra)]
    return {canonicalize_name(r.name): r.specifier for r in map(Requirement, lines)}


def test_the_lock_holds_names_and_versions_only():
    lines = (paths.ROOT / "requirements.lock").read_text().splitlines()
    # no paths, hosts, options or local versions (+cu130): these differ between machines
    pin = re.compile(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*")
    assert [line for line in lines if not line.startswith("#") and not pin.fullmatch(line)] == []


def test_the_lock_satisfies_pyproject(lock, direct):
    assert set(direct) <= set(lock)
    assert {n: lock[n] for n, wanted in direct.items() if lock[n] not in wanted} == {}


def test_conda_has_the_locks_versions(lock, conda, direct):
    (pip,) = [entry["pip"] for entry in conda if isinstance(entry, dict)]
    assert pins(pip) == {name: lock[name] for name in direct}
    # the rest of the lock binds too, and the package itself is installed
    assert {"-c requirements.lock", "-e ."} <= set(pip)


def make(*arguments):
    # a make that called pytest has left its own settings in the environment
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    result = subprocess.run(
        ["make", *arguments],
        cwd=paths.ROOT,
        env=variables,
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_make_alone_lists_every_target():
    (phony,) = re.findall(r"^\.PHONY: (help .*)$", (paths.ROOT / "Makefile").read_text(), re.M)
    listed = re.findall(r"^make (\w+) +\S", make(), re.M)
    assert sorted([*listed, "help"]) == sorted(phony.split())


def test_variables_reach_the_command():
    said = make("-n", "reproduce", "PROFILE=a", "DATA_ROOT=b c", "SEEDS=0,1", "DEVICE=cpu")
    for option in ('--profile "a"', '--data-root "b c"', '--seeds "0,1"', '--device "cpu"'):
        assert option in said


def test_continuous_integration_runs_the_test_command():
    script = paths.ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "exec make test\n" in script.read_text()


def recorded_gains(profile, student="PSPNet-R18(0.25)"):
    """Gain over the student of the same seed, by recipe, from the recorded files."""
    files = (paths.RESULTS / profile).glob("*-s?-*.json")
    runs = {(r["run"]["recipe"], r["run"]["network"], r["run"]["seed"]): r["metrics"].get("miou")
            for r in map(json.loads, (file.read_text() for file in files))}  # fmt: skip
    gains = {"": [value for (r, n, _), value in sorted(runs.items()) if (r, n) == ("", student)]}
    for recipe, network, seed in runs:
        if recipe and network == student:
            gain = runs[recipe, student, seed] - runs["", student, seed]
            gains.setdefault(recipe, []).append(gain)
    return gains


def test_the_readmes_table_6_is_the_recorded_one():
    text = (paths.ROOT / "README.md").read_text()
    table = re.findall(r"^\| (\w+-[\w.()]+) \| ([^|]+) \| ([^|]+) \|" + 5 * r" ([^|]+) \|" + "$",
                       text, re.MULTILINE)  # fmt: skip
    assert len(table) == 6
    printed = (
        pd.read_csv(paths.PAPER / "table6_cityscapes.csv")
        .set_index(["network", "imagenet_init", "method"])["val_miou"]
        .sort_index()
    )
    recipes = ("", "PI + HO + PA_f", "PI + HO + IFV_f", "PI + HO + CW_f")
    for student, stands_for, gain, *ours, camvid in table:
        network, _, init = stands_for.partition(", ")
        at = printed[network, "yes" if init else "no"]
        assert gain == f"{at['CWD'] - at['student']:+.2f}"
        gains = recorded_gains("quick", student)
        for recipe, said in zip(recipes, ours, strict=True):
            mean, sd = statistics.mean(gains[recipe]), statistics.stdev(gains[recipe])
            assert said == f"{mean:{'+' if recipe else ''}.2f} ± {sd:.2f}"
        real = recorded_gains("camvid-cpu", student)["PI + HO + CW_f"]
        spread = f" ± {statistics.stdev(real):.2f}" if len(real) > 1 else ""
        assert camvid == f"{statistics.mean(real):+.2f}{spread}"


def test_the_readmes_table_9_is_the_recorded_one():
    text = (paths.ROOT / "README.md").read_text()
    names = ("Faster R-CNN", "RetinaNet", "RepPoints")
    lines = re.findall(rf"^\| ({'|'.join(names)}) \|(.+)\|$", text, re.MULTILINE)
    assert [name for name, _ in lines] == list(names)
    files = (paths.RESULTS / "quick").glob("*-s?-*.json")
    runs = {}
    for record in (json.loads(file.read_text()) for file in files):
        run, ap = record["run"], record["metrics"].get("ap")
        if ap is not None:
            role = run["recipe"] or ("teacher" if "0.5" in run["network"] else "student")
            kind = run["network"].partition("-")[0]
            runs.setdefault((kind, role), {})[run["seed"]] = ap
    for name, cells in lines:
        kind = name.replace(" ", "").replace("-", "")
        teacher, alone, *gains, paper = (cell.strip() for cell in cells.split("|"))
        student = runs[kind, "student"]
        assert teacher == f"{runs[kind, 'teacher'][0]:.2f}"
        mean, sd = statistics.mean(student.values()), statistics.stdev(student.values())
        assert alone == f"{mean:.2f} ± {sd:.2f}"
        for recipe, said in zip(("Chen", "Wang", "Heo", "Zhang", "CW_fpn"), gains, strict=True):
            measured = runs.get((kind, recipe), {})
            differences = [ap - student[seed] for seed, ap in measured.items()]
            expected = ""
            if differences:
                mean, sd = statistics.mean(differences), statistics.stdev(differences)
                expected = f"{mean:+.2f} ± {sd:.2f}"
            assert said == expected
        printed = pd.read_csv(paths.PAPER / "table9_detection.csv").set_index(
            ["detector", "method"]
        )
        assert paper == f"{printed.ap[name, 'CWD'] - printed.ap[name, 'student']:+.1f}"


def test_the_readmes_four_tasks_are_the_recorded_ones():
    abstract = pd.read_csv(paths.PAPER / "channel_transformation.csv").set_index("task")["gain"]
    rows = re.findall(
        rf"^\| ({'|'.join(abstract.index)}) \|(.+)\|$",
        (paths.ROOT / "README.md").read_text(),
        re.MULTILINE,
    )
    assert [task for task, _ in rows] == list(abstract.index)
    students = {
        task: pair.student.network for task, pair in pairs_of(load_profile("quick")).items()
    }
    units = {"top-1": "top1", "AP": "ap", "mask AP": "mask_ap", "mIoU": "miou"}
    files = (paths.RESULTS / "quick").glob("*-s?-*.json")
    records = [json.loads(file.read_text()) for file in files]
    for task, cells in rows:
        network, unit, _, alone, *gains, paper = (cell.strip() for cell in cells.split("|"))
        assert float(paper) == abstract[task]
        width = network.partition("(")[2].rstrip(")")
        assert f"({width}" in students[task]
        taught = [r for r in records if r["run"]["network"] == students[task]]
        known = {(r["run"]["recipe"], r["run"]["seed"]): r["metrics"][units[unit]] for r in taught}
        baseline = [known["", seed] for seed in range(3)]
        mean, sd = statistics.mean(baseline), statistics.stdev(baseline)
        assert alone == f"{mean:.2f} ± {sd:.2f}"
        tap = "fpn" if "CT_fpn" in [recipe for recipe, _ in known] else "f"
        for symbol, said in zip(("MIMIC", "CW", "CT"), gains, strict=True):
            pairs = [known[f"{symbol}_{tap}", seed] - baseline[seed] for seed in range(3)]
            assert said == f"{statistics.mean(pairs):+.2f} ± {statistics.stdev(pairs):.2f}"


def test_the_readmes_results_are_the_recorded_ones():
    table = re.findall(
        r"^\| ([A-Z][\w+ ()=]+) \| ([+-]?[\d.]*) \| ([^|]*) \| ([^|]*) \|$",
        (paths.ROOT / "README.md").read_text(),
        re.MULTILINE,
    )
    # every row of Tables 2, 3 and 5
    assert len(table) == 15 + 3 + 6
    bare = {"PI_s": "PI", "HO_s": "HO"}
    for column, profile in enumerate(("quick", "camvid-cpu"), start=2):
        gains = recorded_gains(profile)
        for row in table:
            values = gains.get(bare.get(row[0], row[0]), [])
            if len(values) < 3:
                assert row[column] == "not run"
            else:
                mean, sd = statistics.mean(values), statistics.stdev(values)
                assert row[column] == f"{mean:+.2f} ± {sd:.2f}"
