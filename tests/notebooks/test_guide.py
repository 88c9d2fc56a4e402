"""The leader's guide: its numbers are recorded, and the notebooks that it names are there."""

import re

import pytest

from cwd.experiments.profile import load_profile
from cwd.experiments.records import Records
from cwd.experiments.study import study
from cwd.system import paths

GUIDE = (paths.ROOT / "docs" / "leaders-guide.md").read_text()
GAINS = re.findall(r"^\| (\w+) \| ([^|]+) \| ([+-]\d+\.\d\d) \|$", GUIDE, re.MULTILINE)


def test_there_is_a_table_of_gains():
    assert len(GAINS) == 11


@pytest.mark.parametrize(("name", "row", "gain"), GAINS, ids=lambda value: value.replace(" ", ""))
def test_a_gain_is_as_recorded(name, row, gain):
    records = Records(load_profile("quick"))
    miou = lambda run: records.find(run)["metrics"]["miou"]  # noqa: E731
    found = {each.label: each for each in study(name, records).rows}
    alone = found["student PSPNet-R18(0.25)"].runs
    pairs = zip(found[row].runs, alone, strict=True)
    gains = [miou(a) - miou(b) for a, b in pairs]
    assert len(gains) == (5 if name == "table3" else 3)
    assert f"{sum(gains) / len(gains):+.2f}" == gain


def test_minutes_and_files():
    spans = re.findall(r"^\| (\d+)–(\d+) \|", GUIDE, re.MULTILINE)
    assert [int(b) - int(a) for a, b in spans] == [10, 25, 15, 25, 15]
    for name in set(re.findall(r"`(\w+\.ipynb)`", GUIDE)):
        assert (paths.NOTEBOOKS / name).is_file()
