"""Datasets in their official layouts, and every way in which they can be broken."""

import subprocess

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import Cityscapes

from cwd.data import base, camvid as camvid_module, datasets, decoded, download, fake_trees, segmentation
from cwd.data.datasets import build_dataset
from cwd.data.decoded import load_in_memory
from cwd.data.fake_trees import SIZE, image, save
from cwd.system.errors import CwdError


@pytest.fixture
def camvid(tmp_path):
    return fake_trees.camvid(tmp_path / "camvid")


@pytest.fixture
def cityscapes(tmp_path):
    return fake_trees.cityscapes(tmp_path / "cityscapes")


def test_camvid(camvid):
    dataset = build_dataset("camvid", camvid.parent, "train")
    assert len(dataset) == 2
    assert dataset.num_classes == len(dataset.palette) == 11
    sample = dataset[0]
    assert sample.image.dtype == torch.uint8
    assert (sample.image.permute(1, 2, 0).numpy() == image(0)).all()
    assert sample.target.dtype == torch.int64
    assert sample.target[0].tolist() == [*range(11), 255, 3, 3, 3, 3]  # 11 is void


def test_cityscapes_ids(cityscapes):
    dataset = build_dataset("cityscapes", cityscapes, "train")
    target = dataset[0].target.flatten()[:34].tolist()
    evaluated = [7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33]
    expected = [evaluated.index(i) if i in evaluated else 255 for i in range(34)]
    assert target == expected
    assert dataset.classes[:3] == ("road", "sidewalk", "building")
    assert dataset.classes[18] == "bicycle"
    assert len(Cityscapes(cityscapes, target_type="semantic", mode="fine")) == len(dataset)


def test_in_memory(camvid):
    loaded = load_in_memory(build_dataset("camvid", camvid, "train"))
    assert loaded.images.shape == (2, 3, *SIZE)
    assert loaded.targets.dtype == torch.uint8
    counts = np.array([1] * 11) * 2.0
    counts[3] += 2 * (16 * 10 - 12)
    assert loaded.class_frequencies() == pytest.approx(counts / counts.sum())
    assert loaded[1].target.dtype == torch.int64
    assert loaded.class_frequencies().sum() == pytest.approx(1, abs=1e-15)
    loaded.targets.fill_(255)
    assert (loaded.class_frequencies() == 0).all()
    small = load_in_memory(build_dataset("camvid", camvid, "train").first(1), size=(5, 8))
    assert small.images.shape == (1, 3, 5, 8)
    assert set(small.targets.unique().tolist()) <= {*range(11), 255}


def test_nothing_to_read(camvid):
    with pytest.raises(CwdError, match="give positive numbers"):
        load_in_memory(build_dataset("camvid", camvid, "train"), size=(0, 8))


@pytest.mark.parametrize("count", [0, -1, 3])
def test_more_images_than_there_are(camvid, count):
    with pytest.raises(CwdError, match=f"has 2 images in train and {count} are asked for"):
        build_dataset("camvid", camvid, "train").first(count)


def test_names_and_paths(camvid):
    dataset = build_dataset("camvid", camvid, "train")
    assert dataset.names == ("train/0001TP_006690.png", "train/0001TP_006720.png")
    assert dataset.paths(1) == tuple(
        camvid / folder / "0001TP_006720.png" for folder in ("train", "trainannot")
    )


def test_an_image_of_absurd_size(camvid, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(CwdError, match="can't be decoded"):
        build_dataset("camvid", camvid, "train")[0]


def test_checksum_changes_with_the_content(camvid):
    first = build_dataset("camvid", camvid, "train").checksum
    assert first == build_dataset("camvid", camvid, "train").checksum
    save(camvid / "train" / "0001TP_006690.png", image(9))
    assert first != build_dataset("camvid", camvid, "train").checksum


def test_missing(tmp_path):
    with pytest.raises(CwdError, match=r"holds no camvid .* `make data DATASET=camvid`"):
        build_dataset("camvid", tmp_path, "train")
    with pytest.raises(CwdError, match=r"holds no cityscapes .* register"):
        build_dataset("cityscapes", tmp_path, "train")
    with pytest.raises(CwdError, match="no dataset 'camvids': use one of scenes, cityscapes"):
        build_dataset("camvids", tmp_path, "train")


def test_wrong_layout(camvid, cityscapes):
    with pytest.raises(CwdError, match="no split 'training'"):
        build_dataset("camvid", camvid, "training")
    with pytest.raises(CwdError, match=r"val\.txt is missing"):
        build_dataset("camvid", camvid, "val")
    with pytest.raises(CwdError, match="no images of the split 'val'"):
        build_dataset("cityscapes", cityscapes, "val")


def test_a_list_that_is_no_text(camvid):
    (camvid / "train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CwdError, match=r"train\.txt is no list of files"):
        build_dataset("camvid", camvid, "train")


def test_image_without_label(camvid, cityscapes):
    (camvid / "trainannot" / "0001TP_006720.png").unlink()
    with pytest.raises(CwdError, match=r"trainannot/0001TP_006720\.png is missing, the label"):
        build_dataset("camvid", camvid, "train")
    next((cityscapes / "gtFine").rglob("*labelIds.png")).unlink()
    with pytest.raises(CwdError, match=r"labelIds\.png is missing, the label"):
        build_dataset("cityscapes", cityscapes, "train")


@pytest.mark.parametrize("folder", ["train", "trainannot"])
def test_truncated_file(camvid, folder):
    path = camvid / folder / "0001TP_006690.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(CwdError, match=rf"{folder}/0001TP_006690\.png can't be decoded"):
        build_dataset("camvid", camvid, "train")[0]
    path.write_bytes(b"")
    with pytest.raises(CwdError, match="can't be decoded"):
        load_in_memory(build_dataset("camvid", camvid, "train"))


def test_label_out_of_range(camvid, cityscapes):
    save(camvid / "trainannot" / "0001TP_006690.png", np.full(SIZE, 12, np.uint8))
    with pytest.raises(CwdError, match=r"006690\.png has the label 12, expected 0 to 11"):
        build_dataset("camvid", camvid, "train")[0]
    path = next((cityscapes / "gtFine").rglob("*labelIds.png"))
    save(path, np.full(SIZE, 40, np.uint8))
    with pytest.raises(CwdError, match="has the label 40, expected 0 to 33"):
        build_dataset("cityscapes", cityscapes, "train")[0]


def test_sizes_that_differ(camvid):
    label = camvid / "trainannot" / "0001TP_006690.png"
    save(label, np.zeros((10, 15), np.uint8))
    with pytest.raises(CwdError, match="is 15x10 pixels and its image 16x10"):
        build_dataset("camvid", camvid, "train")[0]
    save(label, image())
    with pytest.raises(CwdError, match="no label image"):
        build_dataset("camvid", camvid, "train")[0]


def test_images_of_several_sizes(camvid):
    save(camvid / "train" / "0001TP_006720.png", image(1, (12, 16)))
    save(camvid / "trainannot" / "0001TP_006720.png", np.zeros((12, 16), np.uint8))
    with pytest.raises(CwdError, match=r"set data\.size"):
        load_in_memory(build_dataset("camvid", camvid, "train"))
    resized = load_in_memory(build_dataset("camvid", camvid, "train"), size=SIZE)
    assert resized.images.shape == (2, 3, *SIZE)


def test_more_than_memory(camvid, monkeypatch):
    monkeypatch.setattr(decoded, "MEMORY", 1000)
    with pytest.raises(CwdError, match="GiB"):
        load_in_memory(build_dataset("camvid", camvid, "train"))


def test_obtain_checks_what_is_there(camvid):
    with pytest.raises(CwdError, match="has 2 images in train, expected 367"):
        download.obtain("camvid", camvid.parent)


def test_obtain_checks_sizes(camvid, monkeypatch):
    official = datasets.LAYOUTS["camvid"]
    fewer = segmentation.Layout(**(vars(official) | {"counts": {"train": 2}}))
    monkeypatch.setitem(datasets.LAYOUTS, "camvid", fewer)
    with pytest.raises(CwdError, match="is 16x10 pixels, expected 480x360"):
        download.obtain("camvid", camvid)


def test_obtain_clones_and_leaves_nothing_behind_when_it_cannot(tmp_path, camvid, monkeypatch):
    source = tmp_path / "source"
    camvid.rename(tmp_path / "CamVid")
    source.mkdir()
    (tmp_path / "CamVid").rename(source / "CamVid")
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b",
                                                   "commit", "-qm", "CamVid"]):  # fmt: skip
        subprocess.run(["git", "-C", str(source), *command], check=True)
    monkeypatch.setattr(download, "CAMVID_SOURCE", f"file://{source}")
    with pytest.raises(CwdError, match="expected 367"):  # it was cloned, and then checked
        download.obtain("camvid", tmp_path / "data")
    assert (tmp_path / "data" / "camvid" / "train.txt").is_file()

    monkeypatch.setattr(download, "CAMVID_SOURCE", str(tmp_path / "nowhere"))
    with pytest.raises(CwdError, match="git clone --depth 1"):
        download.obtain("camvid", tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []


def test_obtain_where_something_is_in_the_way(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "CAMVID_SOURCE", str(tmp_path / "nowhere"))
    (tmp_path / "camvid").mkdir()
    with pytest.raises(CwdError, match="git clone"):  # an empty folder doesn't count
        download.obtain("camvid", tmp_path)
    (tmp_path / "camvid" / "train").mkdir(parents=True)
    with pytest.raises(CwdError, match=r"no complete CamVid .* move it away"):
        download.obtain("camvid", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(CwdError, match="could not be written"):
        download.obtain("camvid", tmp_path / "file")


def test_obtain_cityscapes_tells_what_to_do(tmp_path):
    with pytest.raises(CwdError, match=r"register at cityscapes-dataset\.com"):
        download.obtain("cityscapes", tmp_path)


def test_real_camvid(camvid_root):
    assert "367 train, 101 val, 233 test" in download.obtain("camvid", camvid_root)
    train = load_in_memory(build_dataset("camvid", camvid_root, "train"), size=(60, 80))
    assert (train.class_frequencies() > 0).all()


def test_describe(camvid):
    loaded = load_in_memory(build_dataset("camvid", camvid, "train"))
    loaded.targets[0] = 255
    line = decoded.describe({"train": loaded}).loc["train"]
    assert line.tolist() == [2, 10, 16, round(100 * (160 + 1) / 320, 1)]  # and one void pixel
