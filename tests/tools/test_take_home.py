"""A student taken home: predictions, other formats, its file in another process, the hub."""

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from cwd import models
from cwd.data.datasets import LAYOUTS
from cwd.data.scenes import draw_scene
from cwd.models import student_file
from cwd.models.segmentation import SegmentationOutput
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.tools import export as exporting
from cwd.tools.export import agreement, export
from cwd.tools.predict import label, predict_images, spans
from cwd.training.loop import train
from cwd.training.run_folder import WEIGHTS, RunFolder

PUBLISHED = next(paths.WEIGHTS.glob("PSPNet*"))  # of an earlier version, without a description
IMAGENET = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A drawn street, and its file."""
    path = tmp_path_factory.mktemp("images") / "street.png"
    drawn = draw_scene(np.random.default_rng(3), (64, 128), "streets")
    Image.fromarray(drawn.image).save(path)
    return drawn, path


@pytest.fixture
def home(trained, student, place):
    """A trained student in this test's checkout."""
    shutil.copytree(trained(student).done, paths.RUNS / student.name)
    return RunFolder(paths.RUNS, student)


def scores_by_hand(network, pixels):
    """Scores of pixels [H, W, 3] by what the paper's code does, written out."""
    images = (pixels / 255 - IMAGENET[0]) / IMAGENET[1]
    images = torch.from_numpy(images).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        score = network(images).score
    return F.interpolate(score, pixels.shape[:2], mode="bilinear", align_corners=True)


def test_a_published_student_labels_a_street(scene, tmp_path):
    drawn, path = scene
    assert predict_images(PUBLISHED.name, [str(path.parent)], tmp_path, "cpu") == 1
    labels = Image.open(tmp_path / "street.png")
    layout = LAYOUTS["streets"]
    assert labels.getpalette()[: 3 * 9] == layout.palette.flatten().tolist()
    found, true = np.array(labels), layout.mapping[drawn.label_ids]
    assert (found == true)[true < 255].mean() > 0.7
    overlay = np.array(Image.open(tmp_path / "street_overlay.png")).astype(int)
    expected = (drawn.image.astype(int) + layout.palette[found]) / 2
    assert np.abs(overlay - expected).max() <= 1


def test_an_image_is_labelled_upright(scene, tmp_path):
    drawn, path = scene
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter to the right when it is shown
    sideways, out = tmp_path / "turned.png", tmp_path / "out"
    Image.fromarray(np.rot90(drawn.image).copy()).save(sideways, exif=turned)
    predict_images(PUBLISHED.name, [str(path), str(sideways)], out, "cpu")
    for end in ("", "_overlay"):
        both = [np.array(Image.open(out / f"{name}{end}.png")) for name in ("street", "turned")]
        assert np.array_equal(*both)


@pytest.mark.parametrize(("length", "tile", "margin"), [(300, 64, 8), (64, 64, 8), (65, 64, 16)])
def test_tiles_cover_an_axis_once(length, tile, margin):
    kept = np.zeros(length, int)
    for seen, part in spans(length, tile, margin):
        assert seen.start <= part.start < part.stop <= seen.stop <= length
        assert seen.start in (0, part.start - margin) or seen.stop == length
        kept[part] += 1
    assert (kept == 1).all()


class Local(nn.Module):
    """A network that sees two pixels in each direction."""

    num_classes = 5

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 5, 3, padding=1))

    def forward(self, images):
        score = self.layers(images)
        return SegmentationOutput(score, score, None)


def test_tiles_change_nothing_where_the_margin_is_what_a_network_sees():
    image = torch.randint(0, 256, (3, 90, 170), dtype=torch.uint8)
    whole, tiled = (label(Local(), image, limit=n, tile=48, margin=4) for n in (10**6, 0))
    assert torch.equal(whole, tiled)


def test_images_of_any_size():
    network = models.load(PUBLISHED)
    for size in ((1, 1), (7, 300), (97, 33)):
        assert label(network, torch.zeros(3, *size, dtype=torch.uint8)).shape == size


def test_what_predict_refuses(tmp_path, scene):
    (tmp_path / "two").mkdir()
    for name in ("a", "a_overlay"):
        shutil.copy(scene[1], tmp_path / "two" / f"{name}.png")
    for source, places, words in (
        ("nothing", ["a.png"], "there is no student 'nothing'"),
        ("~no_one/run", ["a.png"], "'~no_one/run' is no path"),
        (PUBLISHED.name, [str(tmp_path / "two")], "would both be written to"),
        (PUBLISHED.name, [str(tmp_path / "two" / ".." / "a.png")], "is one of the images"),
        (PUBLISHED.name, [str(tmp_path)], "holds no images"),
        (PUBLISHED.name, [str(scene[1]), str(tmp_path / "b" / "street.jpg")], "have one name"),
        (PUBLISHED.name, [str(tmp_path / "b" / "a.png")], "can't be decoded"),
    ):
        with pytest.raises(CwdError, match=words):
            predict_images(source, places, tmp_path, "cpu")


ELSEWHERE = """
import sys, numpy as np, onnxruntime, torch
folder, pixels = sys.argv[1:]
images = np.load(pixels)
session = onnxruntime.InferenceSession(folder + "/student.onnx", providers=["CPUExecutionProvider"])
onnx = session.run(None, {"images": images})[0]
images = torch.from_numpy(images)
script = torch.jit.load(folder + "/student.pt")(images).numpy()
assert "cwd" not in sys.modules
from cwd.models import load
student = load(folder + "/student.safetensors")
mean, std = (torch.tensor(v).view(3, 1, 1) for v in (student.mean, student.std))
with torch.no_grad():
    score = student((images / 255 - mean) / std).score
score = torch.nn.functional.interpolate(
    score, images.shape[2:], mode="bilinear", align_corners=True
)
np.save(pixels, np.stack([onnx, script, score.numpy()]))
"""


def test_every_format_gives_the_same_in_another_process(scene, tmp_path):
    pytest.importorskip("onnxruntime")
    drawn, _ = scene
    folder = export(PUBLISHED.name, ["onnx", "torchscript"], tmp_path / "out", (65, 100))
    pixels = np.ascontiguousarray(drawn.image[:65, :100])[:64]
    pixels = np.pad(pixels, ((0, 1), (0, 0), (0, 0)))
    expected = scores_by_hand(models.load(PUBLISHED), pixels).numpy()
    given = tmp_path / "images.npy"
    np.save(given, pixels.transpose(2, 0, 1)[None].astype(np.float32))
    subprocess.run([sys.executable, "-c", ELSEWHERE, folder, given], check=True, cwd=paths.ROOT)
    for found in np.load(given):
        np.testing.assert_allclose(found, expected, atol=2e-3)
    card = (folder / "README.md").read_text()
    metrics = json.loads((PUBLISHED / "metrics.json").read_text())
    for words in ("PSPNet-R18(0.5)", f"{metrics['miou']:.2f} %", "3,270,386", "| sidewalk |"):
        assert words in card
    # the file says by itself what the earlier one needed config.json for
    (folder / "config.json").unlink(missing_ok=True)
    assert models.load(folder).classes == list(LAYOUTS["streets"].classes)


def test_a_format_that_gives_something_else_is_an_error(monkeypatch, tmp_path):
    def wrong(whole, image, path):
        path.write_text("")
        return whole(image).numpy() + 0.1

    monkeypatch.setitem(exporting.FORMATS, "onnx", ("student.onnx", wrong))
    with pytest.raises(CwdError, match=r"student\.onnx differs from the network by"):
        export(PUBLISHED.name, ["onnx"], tmp_path, (32, 32))
    assert not (tmp_path / "student.onnx").exists()
    (tmp_path / "a").write_text("")
    with pytest.raises(CwdError, match=r"size is \(-3, 64\), give at least 1"):
        export(PUBLISHED.name, [], tmp_path, (-3, 64))
    with pytest.raises(CwdError, match="by nan"):
        agreement(tmp_path / "a", np.full((1, 2, 1, 1), np.nan), np.ones((1, 2, 1, 1)))


def about(path):
    """What a student's file says of it."""
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["student"])


def test_a_students_file_says_what_it_holds(home, student):
    path = home.done / WEIGHTS
    expected = {
        "network": student.network, "run": student.name, "size": [32, 64],
        "classes": list(LAYOUTS["scenes"].classes),
        "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
    }  # fmt: skip
    assert about(path) == about(path) | expected
    loaded = models.load(path)
    assert (loaded.name, loaded.num_classes, loaded.training) == (student.network, 19, False)


def test_what_load_refuses(home, tmp_path):
    shutil.copy(PUBLISHED / "student.safetensors", tmp_path / "alone.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    for name, words in (
        ("alone.safetensors", "doesn't say what its network is"),
        ("text.safetensors", "can't be read"),
        ("none.safetensors", "can't be read"),
    ):
        with pytest.raises(CwdError, match=words):
            models.load(tmp_path / name)
    state, known = load_file(home.done / WEIGHTS), about(home.done / WEIGHTS)
    for change, words in (
        (None, "its header is None"),
        ({"classes": 19}, "has 19 for classes"),
        ({"mean": [0.5]}, r"has \[0.5\] for mean"),
        ({"size": [0, 64]}, "has 0 for size.0"),
        ({"palette": [[1, 2, 256]]}, r"has 256 for palette.0.2"),
        ({"palette": [[1, 2, 3]]}, "has not a colour a class"),
    ):
        header = {"student": json.dumps(change and known | change)}
        save_file(state, tmp_path / "changed.safetensors", header)
        with pytest.raises(CwdError, match=words):
            models.load(tmp_path / "changed.safetensors")
    other = tmp_path / "other.safetensors"
    save_file(state, other, {"student": json.dumps(known | {"mean": [0.5] * 3})})
    with pytest.raises(CwdError, match="of another normalisation"):
        predict_images(str(other), [], tmp_path)
    path = home.done / "provenance.json"
    path.write_text(path.read_text().replace(home.provenance["sha256"], "0" * 64))
    with pytest.raises(CwdError, match="other weights than those that were measured"):
        predict_images(home.run.name, [], tmp_path)


NETWORK = """
from torch import nn
from cwd.models import Taps

def build(num_classes):
    twice = nn.Conv2d(4, 4, 1)  # which the network has under two names
    last = nn.Conv2d(4, num_classes, 1)
    return Taps(nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), twice, twice, nn.ReLU(), last), feature="3")
"""


def test_a_student_of_ones_own_network_goes_home_with_what_builds_it(place, student, data_root):
    file = place / "my_net.py"
    file.write_text(NETWORK)
    run = type(student)(student.data, f"{file}:build", student.schedule)
    done = train(run, runs=paths.RUNS, data_root=data_root, device="cpu").done
    folder = export(run.name, [], place / "out")
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1  # who reads one reads all
    file.rename(place / "moved.py")
    with pytest.raises(CwdError, match=r"needs the .*my_net.py that it was trained with"):
        models.load(done)
    images = torch.randn(1, 3, 32, 64)
    home = models.load(folder)
    assert home(images).score.shape == (1, 19, 16, 32)
    (folder / "my_net.py").write_text(NETWORK.replace("ReLU", "GELU"))
    with pytest.raises(CwdError, match="that it was trained with"):
        models.load(folder)


def test_the_hub(monkeypatch, tmp_path, scene):
    there = tmp_path / "hub"

    def upload_folder(*, repo_id, folder_path):
        shutil.copytree(folder_path, there / repo_id)

    def hf_hub_download(*, repo_id, filename):
        if not (there / repo_id / filename).is_file():
            raise OSError("404")
        return str(there / repo_id / filename)

    fake = SimpleNamespace(upload_folder=upload_folder, hf_hub_download=hf_hub_download)
    monkeypatch.setattr(student_file, "hub", fake)
    export(PUBLISHED.name, [], tmp_path / "out", None, "me/street")
    assert (there / "me" / "street" / "README.md").is_file()
    loaded, first = models.load("hf://me/street"), models.load(PUBLISHED)
    expected = first.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())
    assert predict_images("hf://me/street", [str(scene[1])], tmp_path / "labels", "cpu") == 1
    with pytest.raises(CwdError, match=r"hf://me/none can't be had \(404\)"):
        models.load("hf://me/none")
    with pytest.raises(CwdError, match="can't be pushed to me/street"):
        models.push(tmp_path / "out", "me/street")
