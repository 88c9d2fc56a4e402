"""README's numbers are the recorded ones, and its loop trains."""

import json
import re
import statistics
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cwd.experiments.profile import load_profile
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.tools.readme import FILES, renewed

# recipes of lines whose name isn't the recipe's symbol
READINGS = {
    ("HO", "s"): "HO",
    ("PI, equation 6", "f"): "PI_f",
    ("PI, equation 6", "s"): "PI",
    ("PI, released code", "f"): "PI_f(norm=released)",
    ("PI, released code", "s"): "PI(norm=released)",
    ("CW, weight 35 and T = 1", "s"): "CW_s(T=1, weight=35)",
}
README = paths.ROOT / "README.md"


@pytest.mark.parametrize("name", FILES)
def test_generated_sections_are_as_written(name):
    text = (paths.ROOT / name).read_text()
    assert renewed(text, name) == text, "run `make readme`"
    with pytest.raises(CwdError, match=r"README.md has no <!-- make readme"):
        renewed("nothing", "README.md")


@pytest.mark.parametrize(("profile", "columns"), [("quick", (2, 5)), ("camvid-cpu", (3, 6))])
def test_the_table_of_losses_by_hand(profile, columns):
    """From the JSON files alone: mean and standard deviation of paired differences."""
    miou, usual = {}, load_profile(profile)
    steps = usual.student.schedule.steps, usual.teacher.schedule.steps
    for path in (paths.RESULTS / profile).glob("PSPNet-R18-0.25-*-s?-*.json"):
        record = json.loads(path.read_text())
        run = record["run"]
        taught = run["teacher"]["schedule"]["steps"] if run["teacher"] else steps[1]
        if (run["schedule"]["steps"], taught) == steps and run["schedule"]["flip"]:  # not of 08
            miou.setdefault(run["recipe"], {})[run["seed"]] = record["metrics"]["miou"]
    section = README.read_text().partition("readme: losses")[2].partition("<!-- end")[0]
    lines = re.findall(r"^\| ([A-Z][^|]+) \|(.+)\|$", section, re.M)
    assert len(lines) == 10
    for loss, cells in lines:
        said = [loss, *(cell.strip() for cell in cells.split("|"))]
        for tap, column in zip("fs", columns, strict=True):
            recipe = READINGS.get((loss, tap), f"{loss}_{tap}")
            seeds = miou.get(recipe, {})
            gains = [value - miou[""][seed] for seed, value in seeds.items()]
            expected = ""
            if gains:
                expected = f"{statistics.mean(gains):+.2f} ± {statistics.stdev(gains):.2f}"
            assert said[column] == expected, recipe


class Network(nn.Module):
    """A score map and a feature map of two convolutions."""

    def __init__(self, width):
        super().__init__()
        self.feature, self.score = nn.Conv2d(3, width, 3, 8), nn.Conv2d(width, 5, 1)

    def forward(self, images):
        feature = self.feature(images)
        return SimpleNamespace(score=self.score(feature), feature=feature)


def test_the_loop_trains():
    (code,) = re.findall(r"```python\n(.+?)```", README.read_text(), re.DOTALL)
    torch.manual_seed(0)
    student, teacher = Network(128), Network(512)
    images, target = torch.randn(2, 3, 32, 32), torch.randint(5, (2, 32, 32))

    def cross_entropy(score, target):
        return F.cross_entropy(F.interpolate(score, target.shape[1:], mode="bilinear"), target)

    seen = []
    loader = [(images, target)] * 5
    names = {"student": student, "teacher": teacher, "loader": loader}
    code = code.replace("    optimizer.step()", "    optimizer.step(); seen.append(loss.item())")
    exec(code, names | {"cross_entropy": cross_entropy, "seen": seen})
    assert seen[-1] < seen[0]
    assert all(p.grad is None for p in teacher.parameters())
