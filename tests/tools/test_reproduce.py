"""The runner: what it leaves, what it refuses, and how it says so."""

import io
import math
import os
import re
import subprocess
import sys

import nbformat
import pytest
import yaml
from invented import PROVENANCE
from nbformat import v4

from cwd import __main__
from cwd.experiments.study import every_run
from cwd.experiments.workspace import Workspace
from cwd.system import paths, progress
from cwd.system.errors import CwdError
from cwd.system.files import exclusive
from cwd.system.progress import ProgressTail, Terminal, report
from cwd.tools import first
from cwd.tools import reproduce as reproducing
from cwd.tools.execute import side_by_side
from cwd.tools.reproduce import reproduce

PARAMETERS = (
    'profile: str = "quick"\ndata_root: str = "data"\nseeds: str = ""\ndevice: str = "auto"\n'
    'mode: str = ""'
)
MEASURED = {"metrics": {"miou": 40.0, "macc": 50.0}, "provenance": PROVENANCE}
PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63606060000000040001f61738550000000049454e44ae426082"
)


@pytest.fixture
def go(tmp_path, monkeypatch):
    """Run the notebooks of this test's folder, which need no runs, into its output."""
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(reproducing, "train_first", lambda *_: None)

    def call(**options):
        places = {"notebooks": tmp_path / "notebooks", "output": tmp_path / "out"}
        return reproduce("smoke", data_root=tmp_path, **places, **options)

    def write(name, *sources, parameters=PARAMETERS, title="About {}"):
        cells = [v4.new_markdown_cell(f"# {title.format(name)}\n\n**Question.** Why $x < 1$?")]
        cells += [v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
        cells += [v4.new_code_cell(source) for source in sources]
        book = v4.new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
        book.metadata.kernelspec = {"name": "python3", "language": "python", "display_name": "P"}
        nbformat.write(book, tmp_path / "notebooks" / f"{name}.ipynb")

    call.write = write
    return call


REPORT = """
import os
with open(os.environ["CWD_PROGRESS_FILE"], "a") as file:
    file.write("~step 1\\nrun finished\\n")
"""


def test_a_run_leaves_everything(go, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("CWD_PROFILE", "quick")  # nbval's, must not go before the parameters
    monkeypatch.setattr(progress.TERMINAL, "last", -math.inf)  # no transient line was shown lately
    go.write("00_first", REPORT, "print(profile, seeds, device, os.environ.get('CWD_PROFILE'))")
    go.write("A1_appendix", "print('at the end')")
    output = tmp_path / "out"
    for folder in ("tables", "figures"):
        (output / folder).mkdir(parents=True)
    (output / "tables" / "table2.csv").write_text("method,ours\nCW_f,36.9\n")
    (output / "figures" / "curve.png").write_bytes(PICTURE)

    assert go(seeds="0,1") == output
    parameters = yaml.safe_load((output / "parameters.yaml").read_text())
    given = {"profile": "smoke", "data_root": str(tmp_path), "seeds": "0,1", "device": "auto"}
    assert parameters == given | {"mode": ""}
    first = (output / "notebooks" / "00_first.ipynb").read_text()
    assert "smoke 0,1 auto None" in first
    index = (output / "index.html").read_text()
    links = re.findall(r'(?:href|src)="([^"#:]+)"', index)
    assert {"html/00_first.html", "html/A1_appendix.html", "tables/table2.csv"} <= set(links)
    assert all((output / link).is_file() for link in links)
    assert index.index("About 00_first") < index.index("About A1_appendix")
    assert "<td>36.9</td>" in index
    assert "Why <math" in index
    page = (output / "html" / "00_first.html").read_text()
    assert "smoke 0,1 auto None" in page
    assert 'href="../html/A1_appendix.html">About A1_appendix</a> →' in page

    said = capsys.readouterr()
    assert "index.html" in said.out
    assert said.err.splitlines()[0].startswith("[1/2] 00_first")
    assert "run finished" in said.err.splitlines()
    assert re.search(r"^\[2/2\] A1_appendix  done in 0 min \d+ s$", said.err, re.M)
    assert os.environ["CWD_PROFILE"] == "quick"
    assert not (output / ".progress").exists()


def test_some_notebooks(go, tmp_path):
    go.write("00_first", "assert False")
    go.write("01_second", "pass")
    go.write("02_third", "pass")
    half = tmp_path / "out" / "notebooks" / "02_third.ipynb"
    half.parent.mkdir(parents=True)
    half.write_text('{"cells": [')
    index = go(only="01") / "index.html"
    first, second, third = re.findall(r"<li>(<a href=.*)<p>", index.read_text())
    assert ("not executed yet" in first, "not executed" in second) == (True, False)
    assert "it was interrupted" in third
    assert "Not executed yet" in (index.parent / "html" / "00_first.html").read_text()
    with pytest.raises(CwdError, match="no notebook 7 for this profile: use some of 00, 01, 02"):
        go(only="01,7")


def test_workers_train_first_what_the_first_table_shows(go, monkeypatch, capsys):
    go.write("00_first", "pass")
    asked = []

    def no_disk(workspace, runs, **jobs):
        asked.append(tuple(runs))
        if len(asked) == 2:
            assert workspace.profile.seeds == (1, 2)
            others = [run for run in every_run(workspace) if run not in workspace.core]
            assert (others, others[0].recipe) == (list(runs), "")
            raise CwdError(f"no disk for {jobs['workers']}")

    monkeypatch.setattr(reproducing, "train_first", first.train_first)
    monkeypatch.setattr(first, "train_runs", no_disk)
    monkeypatch.setattr(first, "SHORT", 0)
    monkeypatch.setattr(Workspace, "find", lambda *_: MEASURED)
    with pytest.raises(CwdError, match="no disk for 4"):
        go(seeds="1,2", workers=4)
    teacher, *students = asked[0]
    assert (teacher.recipe, [run.recipe for run in students][:2]) == ("", ["", "PI"])
    assert {run.seed for run in students} == {1}  # one of those that were given
    said = capsys.readouterr().out  # before the others are trained
    assert re.search(r"^CW_f +73\.52 +4\.42 +40\.0 +0\.0 +here$", said, re.M)


def test_short_runs_need_no_workers(go, monkeypatch):
    """A process takes longer to start than the few steps of this profile."""
    go.write("00_first", "pass")
    asked = []

    def train_runs(workspace, runs, **jobs):
        asked.append((tuple(runs) == tuple(workspace.core), jobs["workers"]))

    monkeypatch.setattr(reproducing, "train_first", first.train_first)
    monkeypatch.setattr(first, "train_runs", train_runs)
    monkeypatch.setattr(Workspace, "find", lambda *_: MEASURED)
    go(workers=4)
    assert asked == [(True, 1)]


WAITING = """
from pathlib import Path
here = Path(data_root, "{}")
here.touch()
for _ in range(600):
    if here.with_name("{}").exists():
        break
    time.sleep(0.1)
else:
    raise SystemExit("nobody came")
assert "being executed" in Path(data_root, "out", "index.html").read_text()
"""


def test_several_at_once_and_the_last_alone(go, tmp_path, capsys):
    """Two notebooks wait for each other; the claims come when all others are done."""
    for name, other in (("a", "b"), ("b", "a")):
        go.write(f"0{'ab'.index(name)}_{name}", "import time", WAITING.format(name, other))
    go.write("02_c", "print('kernels start in', __import__('os').getcwd())")
    go.write("99_claims", "pass")
    before = os.getcwd()
    output = go(workers=2)
    assert os.getcwd() == before
    assert f"start in {tmp_path / 'notebooks'}" in (output / "html" / "02_c.html").read_text()
    done = re.findall(r"^\[(\d)/4\] \w+  done", capsys.readouterr().err, re.M)
    assert (sorted(done[:3]), done[3]) == (["1", "2", "3"], "4")


def test_after_an_error_no_other_is_begun(tmp_path):
    begun = []

    def execute(book):
        begun.append(book.name)
        if book.name == "1":
            raise CwdError("no disk")

    with pytest.raises(CwdError, match="no disk"):
        side_by_side(execute, [tmp_path / str(number) for number in range(4)], 1)
    assert begun == ["0", "1"]


def test_a_parameter_that_a_notebook_lacks(go, tmp_path):
    go.write("00_first", "pass", parameters='profile: str = "quick"')
    with pytest.raises(CwdError, match=r"first\.ipynb has no parameter data_root, device, mode"):
        go()
    assert not (tmp_path / "out" / "notebooks").exists()


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        (("x = 1", "1 / 0"), "cell 4: ZeroDivisionError: division by zero"),
        (("class CwdError(Exception):\n    pass\nraise CwdError('Do this.')",),
         "cell 3: Do this. (The traceback"),
        (("import os\nos.kill(os.getpid(), 9)",), "kernel died, most likely for want of memory"),
    ],
)  # fmt: skip
def test_a_cell_that_fails(go, tmp_path, sources, words):
    go.write("00_first", *sources)
    with pytest.raises(CwdError, match=r"^00_first\.ipynb") as caught:
        go()
    assert words in str(caught.value)
    executed = tmp_path / "out" / "notebooks" / "00_first.ipynb"
    shown = executed.read_text()
    if "cell" in words:
        assert str(executed) in str(caught.value)
        assert "Traceback" in shown
    noted = next(name for name in ("ZeroDivisionError", "CwdError", "DeadKernel") if name in shown)
    assert f"it failed: {noted}" in (tmp_path / "out" / "index.html").read_text()
    page = (tmp_path / "out" / "html" / "00_first.html").read_text()
    assert 'output_error">' in page  # shown as far as it came


def test_a_title_is_no_html(go, tmp_path):
    go.write("00_first", "pass", title=r"{} <b>& [x](y) $\frac$")
    index = go() / "index.html"
    for page in (index, tmp_path / "out" / "html" / "00_first.html"):
        nav = page.read_text().partition("<nav")[2].partition("</nav>")[0]
        assert "00_first &lt;b&gt;&amp; [x](y)" in nav
    assert r"<code>\frac</code>" in page.read_text()  # what is no equation is shown as it is


def test_two_at_once(go, impatient, tmp_path):
    go.write("00_first", "pass")
    with (
        exclusive(tmp_path / "out" / ".lock", "this test"),
        pytest.raises(CwdError, match="in the hands of another process"),
    ):
        go()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("reproduce --profile nonsense", "no profile 'nonsense'"),
        ("reproduce --profile smoke --seeds one", "SEEDS is 'one'"),
        ("plan --profile smoke --tflops 0", "tflops is 0"),
        ("train --seed -1", "Invalid value for '--seed'"),
        ("train --workers 0", "Invalid value for '--workers'"),
        ("train --cluster pbs", "no cluster 'pbs'"),
        ("plan --profil quick", "No such option: --profil"),
        ("plann", "No such command 'plann'"),
        *((verb, f"`{verb}` needs .* of a checkout, and")
          for verb in ("reproduce", "report", "record", "publish")),
    ],
)  # fmt: skip
def test_the_command_line_says_one_sentence(monkeypatch, capsys, arguments, sentence):
    monkeypatch.setattr(paths, "INSTALLED", " " not in arguments)
    monkeypatch.setattr(sys, "argv", ["cwd", *arguments.split()])
    assert __main__.main() == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert re.match(f"error: .*{sentence}", line)


def test_help_is_instant():
    """It imports none of what a verb needs."""
    code = "import sys; from cwd.__main__ import main; main(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True,
                          check=True, cwd=paths.ROOT)  # fmt: skip
    assert {"reproduce", "plan", "train", "bench"} <= set(done.stdout.split())
    assert not {"torch", "pandas", "papermill", "rich"} & set(done.stdout.split())


def test_an_interrupt_says_how_to_go_on(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["cwd", "bench"])
    monkeypatch.setattr("cwd.tools.bench.bench", interrupted)
    assert __main__.main() == 130
    assert "the same command goes on" in capsys.readouterr().err


def shown(text):
    """The lines that a terminal shows, where a carriage return goes back to a line's start."""
    lines = []
    for line in text.split("\n"):
        seen = ""
        for part in line.split("\r"):
            seen = part + seen[len(part) :]
        lines.append(seen.rstrip())
    return lines


def test_transient_lines_overwrite_each_other(monkeypatch):
    monkeypatch.setattr(sys, "stderr", screen := io.StringIO())
    screen.isatty = lambda: True
    monkeypatch.setenv("COLUMNS", "20")
    terminal = Terminal()
    terminal.show("step 10", transient=True)
    terminal.show("step 9", transient=True)
    assert shown(screen.getvalue()) == ["step 9"]
    terminal.show("done", transient=False)
    assert shown(screen.getvalue()) == ["done", ""]
    terminal.show("x" * 30, transient=True)
    assert shown(screen.getvalue()) == ["done", "x" * 19]
    terminal.clear()
    assert shown(screen.getvalue()) == ["done", ""]


def test_a_log_file_gets_few_transient_lines_and_other_processes(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stderr", log := io.StringIO())
    terminal = Terminal()
    for step in range(5):
        terminal.show(f"step {step}", transient=True)
    terminal.show("done", transient=False)
    monkeypatch.setattr(progress, "TERMINAL", Terminal())
    with ProgressTail(tmp_path / "progress"):
        monkeypatch.setenv(progress.VARIABLE, str(tmp_path / "progress"))
        report("step 1", transient=True)
        report("run finished")
    assert log.getvalue() == "step 0\ndone\nstep 1\nrun finished\n"


def test_a_notebook_without_widgets_gets_text_and_no_warning():
    code = (
        "import sys, types; sys.modules['ipykernel.zmqshell'] = types.ModuleType('kernel');"
        "sys.modules['IPython'] = types.SimpleNamespace(get_ipython=lambda: None);"
        "sys.modules['ipywidgets'] = None;"
        "import cwd, tqdm.auto; from cwd.system.progress import report; report('step 1')"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stderr == "step 1\n"
