"""Every exercise is passed by its folded solution, failed by a wrong answer, and may stay open."""

import re

import nbformat
import pytest

from cwd.system import paths

# an answer that somebody might give, by exercise; none of them is right
WRONG = {
    "iou": "def class_iou(counts):\n    return 100 * counts.diag() / counts.sum(dim=1)",  # recall
    "shift": "def changed(y):\n    return 2 * y",
    "gradient": "def gradient(p, q):\n    return p - q",
    "accuracy": "prediction = [1] + [0] * 8 + [1]",
    "log-softmax": "temperature = 1.0",
    "swapped": 'guess = "both"',
    "large-t": "def limit(s, t):\n    return (s - t).square().mean() / 2",  # not centred
    "interval": "interval = (2 - 1.96 / 3**0.5, 2 + 1.96 / 3**0.5)",  # as of many seeds
    "weights": "weight = 10 / 19",
    "scale": 'unmoved = {"AT", "PA", "CW"}',
    "pi-gradient": "def gradient(y_s, y_t):\n    return y_s - y_t",
    "critic": "def changed(s):\n    return s.flip(3)",
}
SOLUTION = re.compile(
    r"<details><summary>Solution</summary>\n\n```python\n(.*?)```\n.*</details>", re.DOTALL
)
OPEN = "not answered yet\n"


def exercises():
    """By name: the folded solution, the cell for an answer, and the cell that checks it."""
    found = {}
    for path in sorted(paths.NOTEBOOKS.glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        for place, cell in enumerate(cells):
            for tag in cell.metadata.get("tags", []):
                if tag.startswith("exercise:"):
                    name = tag.partition(":")[2]
                    assert name not in found, f"two exercises are called {name}"
                    found[name] = cells[place - 1], cell, cells[place + 1]
    return found


EXERCISES = exercises()


def answered(answer, check):
    """What the check does with an answer, in a kernel where nothing else has run."""
    space = {}
    exec(compile(answer, "answer", "exec"), space)
    exec(compile(check.source, "check", "exec"), space)


def test_every_exercise_has_a_wrong_answer():
    assert EXERCISES.keys() == WRONG.keys()


@pytest.mark.parametrize("name", EXERCISES)
def test_an_exercise(name, capsys):
    text, stub, check = EXERCISES[name]
    (solution,) = SOLUTION.findall(text.source)
    assert "check" in check.metadata.tags
    answered(stub.source, check)
    assert capsys.readouterr().out == OPEN
    assert check.outputs[0].text == OPEN  # as committed
    answered(solution, check)
    assert capsys.readouterr().out.startswith("right")
    with pytest.raises(AssertionError):
        answered(WRONG[name], check)
