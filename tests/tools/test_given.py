"""What is given is used, or refused in a sentence: profiles, seeds, modes, paths, variables."""

from dataclasses import replace

import pytest
import torch
import yaml
from invented import QUICK

from cwd.experiments import open_profile, study
from cwd.system import paths
from cwd.system.device import training_threads
from cwd.system.errors import CwdError
from cwd.system.progress import VARIABLE, report


@pytest.fixture
def opened(tmp_path):
    """Open a profile with these changes."""

    def call(changes, **given):
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump(QUICK | changes))
        return open_profile(str(path), **{"data_root": str(tmp_path)} | given)

    return call


def test_modes_and_data_roots(opened):
    for mode in (0, False, "old", "all fresh"):
        with pytest.raises(CwdError, match="is unknown: use one of core, all, fresh"):
            opened({}, mode=mode)
    assert opened({}, mode="").mode == opened({}, mode=None).mode == "core"
    for root in ("~nosuchuser/data", "a\0b"):
        with pytest.raises(CwdError, match="is no path"):
            opened({}, data_root=root)
    assert opened({}, data_root=2017).data_root == paths.ROOT / "2017"  # papermill's number


def test_first_weights_with_a_long_name(opened):
    workspace = opened({"student": {"network": "PSPNet-R18", "init": "x" * 300}})
    with pytest.raises(CwdError, match="the first weights of PSPNet-R18 in profile tiny"):
        workspace.profile.check_weights()


def test_a_recipe_of_any_length_has_a_folder(student, teacher):
    terms = "PI(T=1.5) + CW_s(T=1.25, weight=2.5) + CW_f(T=1.75, weight=3.5)"
    terms += " + MIMIC_f(weight=1.125) + MIMIC_s(weight=1.125) + AT_f(weight=1.125) + AT_s(p=3)"
    terms += " + PA_f(weight=1.125) + PA_s(weight=1.125) + LOCAL_f(weight=1.125)"
    run = replace(student, recipe=terms, teacher=teacher)
    other = replace(run, recipe=terms.replace("LOCAL_f", "LOCAL_s"))
    assert len(f".{run.name}.partial.0000000.tmp") < 255
    assert run.name != other.name


def test_a_tiny_teacher_is_stopped_early_too(opened):
    one = {"steps": 1, "batch": 4, "crop": [32, 64]}
    teacher = {"network": "PSPNet-R18(0.25)", "schedule": {"steps": 1}}
    workspace = opened({"schedule": one, "teacher": teacher, "investigations": True})
    assert [row.runs[0].schedule.steps for row in study("schools", workspace).rows[-4:-3]] == [1]


@pytest.mark.parametrize(("said", "threads"), [("0", 1), ("abc", 1), ("", 1), ("2", 3), ("4,2", 3)])
def test_threads(monkeypatch, said, threads):
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    torch.set_num_threads(3)
    with training_threads("cpu"):
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)


def test_progress_that_nobody_can_read_is_shown_here(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "missing" / "file"))
    report("run finished")
    assert capsys.readouterr().err == "run finished\n"
