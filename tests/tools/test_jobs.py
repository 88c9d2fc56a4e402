"""Many runs as jobs: in their order, never twice, started again where they died."""

import argparse
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from invented import finish
from submitit.helpers import Checkpointable
from submitit.slurm.slurm import _make_sbatch_string

from cwd import __main__
from cwd.config.schedule import Schedule
from cwd.experiments.study import every_run, open_profile
from cwd.system import paths
from cwd.system.distributed import VARIABLES
from cwd.system.errors import CwdError
from cwd.tools import jobs, worker
from cwd.tools.jobs import Crew
from cwd.tools.train import Settings, chosen_runs, train_runs
from cwd.tools.worker import Job
from cwd.training.order import needed
from cwd.training.run_folder import RunFolder


@pytest.fixture
def place(tmp_path, data_root):
    return {"runs": tmp_path / "runs", "data_root": data_root, "device": "cpu",
            "allow_weak_teacher": True}  # fmt: skip


@pytest.fixture
def crew(place, tmp_path):
    """A crew for a list of runs, with settings."""

    def call(*runs, workers=1, **settings):
        return Crew(runs, place, workers, Settings(**settings), tmp_path / "jobs")

    return call


def taught(student, teacher, recipe="CW_f", **changes):
    return replace(student, recipe=recipe, teacher=teacher, **changes)


class Pretence:
    """Jobs that end at the second look: who ran beside whom, and what was finished then."""

    def __init__(self, crew, fate=None):
        self.crew, self.fate = crew, fate or {}
        self.log, self.begun, self.together = [], [], []
        crew.submit = self.submit
        crew.outcome = lambda handle: handle.refused

    def submit(self, job):
        for run in job.runs:
            assert not self.crew.finished(run)
            assert all(map(self.crew.finished, needed(run)))
        self.log.append(job)
        handle = argparse.Namespace(looks=0, job=job, refused={})
        handle.paths = argparse.Namespace(stderr=self.crew.folder / "log")
        handle.done = lambda: self.look(handle)
        handle.cancel = lambda check: None
        return handle

    def look(self, handle):
        self.together.append([each for _, each in self.crew.running.values()])
        handle.looks += 1
        if handle.looks == 2:
            for run in handle.job.runs:
                self.begun.append(run)
                said = self.fate[run].pop(0) if self.fate.get(run) else None
                if said == "":
                    break  # the whole job died
                if said:
                    handle.refused[run.name] = said
                    continue
                finish(self.crew.place["runs"], run)
        return handle.looks >= 2


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(jobs, "PAUSE", 0.01)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_what_a_run_needs_comes_first_and_no_more_than_the_workers(crew, student, teacher):
    runs = [taught(student, teacher, recipe, seed=seed) for seed in (0, 1, 2)
            for recipe in ("CW_f", "CW_s", "PI")]  # fmt: skip
    pretence = Pretence(whole := crew(*runs, workers=3))
    whole.go()
    trained = [run for each in pretence.log for run in each.runs]
    assert len(trained) == len(set(trained)) == 9 + 3 + 1
    assert set(trained) == {*runs, teacher, *(run.baseline() for run in runs)}
    assert max(map(len, pretence.together)) == 3
    for each in pretence.log:
        assert len({(run.teacher, run.seed) for run in each.runs}) == 1
    assert max(len(each.runs) for each in pretence.log) > 1  # a CPU's small runs share a process
    again = Pretence(crew(*runs, new := taught(student, teacher, "MIMIC_s")))
    again.crew.go()
    assert [each.runs for each in again.log] == [(new,)]  # what is finished isn't submitted


def test_every_worker_has_gpus_of_its_own(crew, student, teacher, place, monkeypatch):
    monkeypatch.setattr(jobs, "pick_device", lambda _: "cuda")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,GPU-6,7")
    runs = [taught(student, teacher, recipe) for recipe in ("CW_f", "CW_s", "PI", "MIMIC_s")]
    pretence = Pretence(whole := crew(*runs, workers=2, gpus_per_run=2))
    whole.go()
    assert [len(each.runs) for each in pretence.log] == [1, 1, 2, 2]  # four share a teacher
    assert {each.gpus for each in pretence.log} == {("4", "5"), ("GPU-6", "7")}
    assert {each.processes for each in pretence.log} == {2}
    for pair_of_jobs in pretence.together:
        assert len({each.gpus for each in pair_of_jobs}) == len(pair_of_jobs)
    with pytest.raises(CwdError, match="5 GPUs and this machine has 4"):
        crew(student, gpus_per_run=5)


def test_a_run_that_dies_is_tried_again_and_one_that_is_refused_is_not(crew, student, teacher):
    dies, refused = taught(student, teacher), taught(student, teacher, "CW_s")
    hopeless, other = taught(student, teacher, "PI"), taught(student, teacher, "MIMIC_s")
    fate = {dies: ["", ""], refused: ["the loss term is nan."], hopeless: [""] * 9}  # "": dies
    pretence = Pretence(whole := crew(dies, refused, hopeless, other, retries=2), fate)
    with pytest.raises(CwdError) as caught:
        whole.go()
    assert pretence.begun.count(refused) == 1
    assert pretence.begun.count(dies) == 3
    assert [len(each.runs) for each in pretence.log if hopeless in each.runs] == [4, 1, 1]
    assert whole.finished(dies)
    assert whole.finished(other)
    sentence = str(caught.value)
    assert sentence.startswith("2 of 6 runs weren't trained: ")
    assert f"{refused.name} (the loss term is nan; log in " in sentence
    assert f"{hopeless.name} (its job died 3 times; log in " in sentence
    assert "what is finished is kept" in sentence


def test_what_needs_a_failed_run_is_left_out(crew, student, teacher):
    other = replace(student, seed=3)
    runs = [*(taught(student, teacher, recipe) for recipe in ("CW_f", "CW_s")), other]
    pretence = Pretence(whole := crew(*runs), {teacher: ["no disk."]})
    with pytest.raises(CwdError, match=r"^3 of 5 runs .*\(no disk; log in .*, and 2 that need"):
        whole.go()
    assert {run for each in pretence.log for run in each.runs} == {teacher, student, other}
    assert whole.finished(other)


def test_jobs_of_this_machine(crew, finished, student, teacher, place):
    """Two workers; one run is killed, one is refused; what was finished before stays as it is."""
    victim = replace(student, schedule=replace(student.schedule, steps=30, checkpoint_every=1))
    refused = replace(student, schedule=replace(student.schedule, batch=16))
    kept = finished(student).done / "metrics.json"
    before = kept.stat().st_mtime_ns
    whole = crew(victim, refused, student, workers=2, retries=1)

    def kill():
        folder, until = RunFolder(place["runs"], victim), time.monotonic() + 600
        while not (folder.partial / "checkpoint.pt").is_file() and time.monotonic() < until:
            time.sleep(0.01)
        lock = f":{(place['runs'] / '.locks' / victim.name).stat().st_ino}"
        held = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        (holder,) = [int(pid) for *_, pid, file, _, _ in held if file.endswith(lock)]
        os.kill(holder, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(CwdError) as caught:
        whole.go()
    killer.join()
    assert "fewer than a batch of 16" in str(caught.value)
    assert victim.name not in str(caught.value)
    sessions = RunFolder(place["runs"], victim).provenance["sessions"]
    assert len(sessions) == 2
    assert 0 < sessions[1]["from_step"] < 30  # it went on where it was killed
    assert kept.stat().st_mtime_ns == before
    logs = [log.read_text() for log in whole.folder.glob("*/*_log.err")]
    assert any("fewer than a batch" not in log for log in logs)
    assert any("steps/s" in log for log in logs)


def test_a_job_of_two_processes(place, student, monkeypatch, tmp_path):
    run = replace(student, schedule=Schedule(steps=1, batch=4, crop=(32, 64)))
    assert Job((run,), place, processes=2)() == {}
    (session,) = RunFolder(place["runs"], run).provenance["sessions"]
    assert session["hardware"]["processes"] == 2
    # where a run is refused: what each of the processes does, and what becomes of it
    odd = replace(student, schedule=replace(student.schedule, batch=16))
    job, torchrun = Job((odd,), place, processes=2), tmp_path / "torchrun"
    (tmp_path / worker.JOB).write_bytes(pickle.dumps(job))
    assert worker.main(tmp_path) == 1
    copy = f'for last; do :; done; cp "{tmp_path / worker.REFUSED}" "$last"; exit 1'
    torchrun.write_text(f"#!/bin/sh\n{copy}\n")
    torchrun.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(torchrun))
    assert "fewer than a batch of 16" in job()[odd.name]
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="torchrun ended with status 1"):  # no refusal
        job()


def test_a_job_sees_its_gpus_and_reports_into_its_log(place, student, monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("CWD_PROGRESS_FILE", str(tmp_path / "progress"))
    seen = []
    monkeypatch.setattr(
        worker, "train_together", lambda *_, **__: seen.append(dict(os.environ)) or {}
    )
    Job((student,), place, gpus=("2", "3"))()
    assert seen[0]["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert "CWD_PROGRESS_FILE" not in seen[0]
    assert issubclass(Job, Checkpointable)  # submitit queues it again when the time is over


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """A machine that has SLURM's commands; they note what they are given."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    noted = f'cp "$1" {tmp_path}/submitted; echo "Submitted batch job 12"'
    for name in ("sbatch", "srun", "sacct", "scancel"):
        (bin_folder / name).write_text(f"#!/bin/sh\n{noted if name == 'sbatch' else 'true'}\n")
        (bin_folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}:{os.environ['PATH']}")
    return tmp_path / "submitted"


def test_what_slurm_is_asked_for_and_refuses(crew, sbatch, student, place, tmp_path, monkeypatch):
    slurm = {"cluster": "slurm", "partition": "gpu", "minutes": 90, "gpus_per_run": 4}
    given = ("account=me", "cpus-per-task=32")
    whole = crew(student, workers=8, parameter=given, **slurm)
    whole.device = "auto"
    handle = whole.submit(Job((student,), place, processes=4))
    lines = set(sbatch.read_text().splitlines())
    wanted = ("partition=gpu", "time=90", "gpus-per-node=4", "cpus-per-task=32", "account=me",
              "nodes=1")  # fmt: skip
    assert {f"#SBATCH --{option}" for option in wanted} <= lines
    assert sum("cpus-per-task" in line for line in lines) == 1
    assert handle.job_id == "12"
    # the name that submitit gives an option is sbatch's
    assert "--gpus-per-node=4" in _make_sbatch_string("x", place["runs"], gpus_per_node=4)
    whole.device = "cpu"
    assert "gpus_per_node" not in whole.parameters()
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\necho invalid partition >&2; exit 1\n")
    with pytest.raises(CwdError, match=r"SLURM refused the job .*check --partition"):
        crew(student, **slurm).go()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CwdError, match="sbatch isn't on this machine"):
        Settings(cluster="slurm")


def test_which_runs_are_meant(tmp_path):
    workspace = open_profile("smoke", str(tmp_path), device="cpu")
    table = chosen_runs(workspace, study_name="table5")
    assert {run.recipe for run in table} >= {"", "PI + HO + CW_f"}
    assert chosen_runs(workspace, study_name="all") == every_run(workspace)
    (one,) = chosen_runs(workspace, recipe="CW_f", network="PSPNet-MBV2(0.35)", seed=3)
    assert (one.recipe, one.seed, one.network) == ("CW_f", 3, "PSPNet-MBV2(0.35)")
    assert chosen_runs(workspace, recipe="") == [workspace.profile.student]


def test_the_command_hands_the_runs_to_workers(monkeypatch, tmp_path, capsys):
    handed = []

    def go(crew):
        handed.append(crew)

    monkeypatch.setattr(Crew, "go", go)
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    words = ["cwd", "train", "--profile", "smoke", "--data-root", str(tmp_path)]
    words += ["--device", "cpu", "--recipe", "CW_f", "--workers", "3", "--retries", "0"]
    monkeypatch.setattr(sys, "argv", words)
    assert __main__.main() == 0
    (whole,) = handed
    assert [run.recipe for run in whole.waiting] == ["", "", "CW_f"]
    assert whole.place["data_root"] == tmp_path
    assert (whole.place["device"], whole.place["allow_weak_teacher"]) == ("cpu", True)
    assert (whole.workers, whole.settings) == (3, Settings(workers=3, retries=0, parameter=()))
    words += ["--cluster", "slurm", "--parameter", "account"]
    assert __main__.main() == 2
    assert "write name=value" in capsys.readouterr().err
    del words[-4:]
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # torchrun sets more
    assert __main__.main() == 0
    for name in VARIABLES:
        monkeypatch.setenv(name, "1")
    assert __main__.main() == 2
    assert "torchrun's processes" in capsys.readouterr().err


def test_an_option_that_would_not_be_used(monkeypatch, capsys, place):
    words = ["cwd", "train", "--profile", "smoke", "--data-root", str(place["data_root"])]
    for given, sentence in (
        ("--seed 1", "--seed is for one run: give --recipe"),
        ("--network PSPNet-R18", "--network is for one run"),
        ("--recipe CW_f --seeds 0,1", "--seeds is for many runs: leave it or --recipe out"),
        ("--recipe CW_f --study table3", "--study is for many runs"),
        ("--partition gpu", "--partition is SLURM's: add --cluster slurm"),
        ("--minutes 5 --cluster local", "--minutes is SLURM's"),
        ("--parameter account=me --workers 1", "--parameter is SLURM's"),
    ):
        monkeypatch.setattr(sys, "argv", words + given.split())
        assert __main__.main() == 2
        assert sentence in capsys.readouterr().err


def test_what_is_finished_is_said_whatever_trains_the_rest(monkeypatch, tmp_path, capsys):
    workspace = open_profile("smoke", str(tmp_path), device="cpu")
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    finish(paths.RUNS, workspace.profile.student)
    for workers in (1, 2):
        train_runs(workspace, [workspace.profile.student], workers=workers)
        said = "alone, seed 0: finished at commit 0123456, which isn't here; kept in"
        assert said in capsys.readouterr().err


FOLLOWER = """
import sys, time
from cwd.tools.worker import follow
follow(int(sys.argv[1]))
try:
    print("following", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_a_worker_ends_with_what_started_it():
    leader = subprocess.Popen(["sleep", "60"])
    words = [sys.executable, "-c", FOLLOWER, str(leader.pid)]
    # interrupts are ignored, as in what a shell starts in the background
    command = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *words]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert worker.stdout.readline() == "following\n"
    leader.kill()  # and nobody asks how it ended
    assert worker.communicate(timeout=60)[0] == "interrupted\n"
    leader.wait()


def test_more_workers_than_make_sense():
    for option in ("workers", "gpus_per_run"):
        with pytest.raises(CwdError, match=r"^100000 workers are too many .* give at most \d+\.$"):
            Settings(**{option: 100_000})


@pytest.mark.parametrize(
    ("given", "workers"),
    [({}, 6), ({"gpus_per_run": 4}, 1), ({"gpus_per_run": 2}, 3), ({"cluster": "slurm"}, 1),
     ({"workers": 1}, 0), ({"workers": 1, "retries": 2}, 1), ({"cluster": "local"}, 6)],
)  # fmt: skip
def test_how_many_at_once(monkeypatch, sbatch, given, workers):
    monkeypatch.setattr("cwd.tools.train.side_by_side", lambda device: 6)
    assert Settings(**given).at_once("cpu") == workers
