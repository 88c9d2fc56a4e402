"""A profile with a network and losses of one's own: their source is part of every run's name."""

import pickle

import pytest

from cwd.experiments import open_profile, study
from cwd.recipes.notation import SYMBOLS
from cwd.recipes.registered import REGISTERED, files_of
from cwd.system import own_code, paths
from cwd.system.errors import CwdError
from cwd.tools.worker import Job
from cwd.training.run_folder import RunFolder

NETWORK = """
from torch import nn
from cwd.models import Taps

def build(num_classes):
    layers = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, {classes}, 1))
    return Taps(layers, score="2", feature="1")
"""
LOSS = """
from cwd.recipes import loss

@loss("MINE", weight={weight})
def mine(student_map, teacher_map, target):
    return (student_map - teacher_map).square().mean()
"""
FROZEN = "\nmade = build\ndef build(k):\n    return made(k).requires_grad_(False)"
PROFILE = """
about: mine
data: {{name: scenes, size: [32, 64], train: 12, val: 4}}
schedule: {{steps: 2, batch: 4, crop: [32, 64]}}
teacher: {{network: PSPNet-R18(0.125)}}
student: {{network: "{folder}/my_net.py:build"}}
seeds: [0, 1]
losses: ["{folder}/my_loss.py"]
recipes: [MINE_f, CW_s + MINE_s]
allow_weak_teacher: true
"""


@pytest.fixture
def mine(place, data_root):
    """What opens the profile, with the files as they are."""
    (place / "my_net.py").write_text(NETWORK.format(classes="num_classes"))
    (place / "my_loss.py").write_text(LOSS.format(weight=2.0))
    (place / "mine.yaml").write_text(PROFILE.format(folder=place))
    yield lambda: open_profile(str(place / "mine.yaml"), str(data_root), device="cpu")
    forget()


PACKAGES = dict(SYMBOLS)


def forget():
    """As in a new process: losses of one's own aren't registered."""
    SYMBOLS.clear()
    SYMBOLS.update(PACKAGES)
    REGISTERED.clear()
    own_code._LOADED.clear()


def test_an_edited_loss_is_another_run_and_the_old_one_is_not_trained_with_it(mine, place):
    first = mine().profile.run("MINE_f", 0)
    assert mine().profile.run("MINE_f", 0).key == first.key
    (place / "my_loss.py").write_text(LOSS.format(weight=3.0))
    workspace = mine()
    second = workspace.profile.run("MINE_f", 0)
    assert second.key != first.key
    assert second.baseline().key == first.baseline().key
    assert second.teacher.key == first.teacher.key
    with pytest.raises(CwdError, match="MINE was edited after a run was made with it"):
        workspace.train(first)


def test_an_edited_network_is_another_run(mine, place):
    workspace = mine()
    first = workspace.profile.student
    workspace.train(first)
    (place / "my_net.py").write_text(NETWORK.format(classes="num_classes") + "# edited")
    with pytest.raises(CwdError, match=r"my_net.py:build was edited after"):
        workspace.network(first)
    assert mine().profile.student.key != first.key


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("my_net.py", "", "has no function build"),
        ("my_net.py", "import nothing", "fails when it is run"),
        ("my_net.py", NETWORK.format(classes="7"), "7 classes, and there are 19"),
        ("my_net.py", "def build(num_classes):\n    return 3", "gives a int, no network"),
        ("my_net.py", "def build():\n    pass", "build fails when it is run .TypeError"),
        ("my_net.py", "import sys\nsys.exit(0)", "my_net.py fails when it is run .SystemExit: 0"),
        ("my_net.py", NETWORK.format(classes="num_classes") + FROZEN, "nothing to learn"),
        ("my_loss.py", LOSS.format(weight=-1), "weight is -1"),
        ("my_loss.py", LOSS.format(weight=1).replace("MINE", "CW"), "a loss of this package"),
    ],
)
def test_what_is_refused(mine, place, file, text, words):
    (place / file).write_text(text)
    with pytest.raises(CwdError, match=words):
        study("own", mine()).train()


def test_a_job_registers_the_losses_of_its_runs(mine):
    workspace = mine()
    run = workspace.profile.run("MINE_f", 0)
    workspace.train_now([run.teacher, run.baseline()])
    place = {"runs": paths.RUNS, "data_root": workspace.data_root, "device": "cpu"}
    place["allow_weak_teacher"] = True
    losses = files_of(["MINE"])
    for given in ((), losses):
        job = pickle.dumps(Job((run,), place, losses=given))
        forget()
        failed = pickle.loads(job)()
        assert failed == {} if given else "is no known term" in failed[run.name]
    assert RunFolder(paths.RUNS, run).finished
