"""Every snippet of docs/your_own.md, in its order, on small images and with few steps."""

import re
import shlex
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from cwd.__main__ import app
from cwd.data.datasets import LAYOUTS
from cwd.data.scenes import draw_scene
from cwd.models import student_file
from cwd.recipes.notation import SYMBOLS
from cwd.recipes.registered import REGISTERED
from cwd.system import paths

PAGE = (paths.ROOT / "docs" / "your_own.md").read_text()
SMALLER = {"[256, 512]": "[32, 64]", "4000": "2", "8000": "2", "batch: 8": "batch: 4"}
SMALLER |= {"[0, 1, 2]": "[0, 1]", "my images\n": "my images\nallow_weak_teacher: true\n"}


def blocks():
    """Kind and text of every snippet, made smaller."""
    for kind, text in re.findall(r"```(python|sh|yaml)\n(.*?)```", PAGE, re.S):
        yield kind, re.sub("|".join(map(re.escape, SMALLER)), lambda m: SMALLER[m[0]], text)


def draw_images(folder):
    """A folder of streets as the page wants it, of nine classes."""
    layout = LAYOUTS["streets"]
    for split, count in (("train", 6), ("val", 3)):
        for part in ("images", "labels"):
            (folder / part / split).mkdir(parents=True)
        for number in range(count):
            drawn = draw_scene(np.random.default_rng([count, number]), (32, 64), "streets")
            Image.fromarray(drawn.image).save(folder / "images" / split / f"{number}.png")
            labels = Image.fromarray(layout.mapping[drawn.label_ids])
            labels.save(folder / "labels" / split / f"{number}.png")
    lines = [
        f"{number},{name},#{bytes(colour.tolist()).hex()},no"
        for number, (name, colour) in enumerate(zip(layout.classes, layout.palette, strict=True))
    ]
    (folder / "classes.csv").write_text("\n".join(["index,name,colour,ignored", *lines]) + "\n")


@pytest.fixture
def checkout(place, monkeypatch):
    """An empty checkout with images of one's own, and a hub that is a folder."""
    monkeypatch.setattr(paths, "ROOT", place)
    monkeypatch.chdir(place)
    draw_images(place / "my_images")
    known = dict(SYMBOLS)
    hub = SimpleNamespace(
        upload_folder=lambda repo_id, folder_path: shutil.copytree(folder_path, place / repo_id),
        hf_hub_download=lambda repo_id, filename: str(place / repo_id / filename),
    )
    monkeypatch.setattr(student_file, "hub", hub)
    yield place
    SYMBOLS.clear()
    SYMBOLS.update(known)
    REGISTERED.clear()


def call(line):
    """A command of the page, in this process."""
    done = CliRunner().invoke(app, shlex.split(line.removeprefix("python -m cwd ")))
    assert done.exit_code == 0, done.exception
    return done.output


def test_the_page(checkout):
    for library in ("transformers", "onnxruntime", "onnxscript", "lightning"):
        pytest.importorskip(library)
    torch.manual_seed(0)
    samples = [(torch.randn(3, 64, 64), torch.randint(0, 9, (64, 64))) for _ in range(4)]
    loader = torch.utils.data.DataLoader(samples, batch_size=2)
    space = {"loader": loader, "FILE": "my_images/images/val/0.png"}
    for kind, text in blocks():
        if name := re.match(r"# (\w+\.\w+)\n", text):
            (checkout / name[1]).write_text(text)
        elif kind == "python":
            exec(compile(text, "page", "exec"), space)
        else:
            for line in text.splitlines():
                call(line.replace("RUN", getattr(space.get("run"), "name", "")))

    table = space["table"]
    rows = ["CW_s", "MINE_f", "CW_s + MINE_f"]
    assert table.index.tolist()[-3:] == rows
    assert table.loc[rows, "seeds"].tolist() == [2, 2, 2]
    assert table.loc[rows, ["our gain", "gain sd"]].notna().all(axis=None)
    assert dict(space["run"].code).keys() == {"my_net.py:build", "MINE"}
    assert not any(p.requires_grad for p in space["teacher"].parameters())
    # what onnxruntime says is what the student says
    pixels = np.float32(Image.open(space["FILE"]).convert("RGB")) / 255
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    batch = torch.from_numpy((pixels - mean) / std).permute(2, 0, 1)[None]
    home = student_file.load("home")
    with torch.no_grad():
        score = home(batch).score
    score = torch.nn.functional.interpolate(score, (32, 64), mode="bilinear", align_corners=True)
    np.testing.assert_allclose(space["scores"], score.numpy(), atol=1e-3)
    assert sorted(p.name for p in (checkout / "labelled").iterdir())[:2] == [
        "0.png",
        "0_overlay.png",
    ]
    assert (checkout / "me" / "my-student" / "my_net.py").is_file()


def test_every_command_and_file_of_the_page_is_there():
    text = PAGE.replace("\n", " ")
    for path in re.findall(r"`((?:cwd|tests|data)/[\w/.]+\.\w+)`", text):
        assert (paths.ROOT / path).is_file(), path
