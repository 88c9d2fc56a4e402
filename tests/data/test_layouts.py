"""VOC with SBD and ADE20K in their official layouts, and every way in which they can be broken."""

import functools
import hashlib
import http.server
import io
import shutil
import tarfile
import threading

import numpy as np
import pytest
from torchvision.datasets import SBDataset, voc

from cwd.config.run import Data
from cwd.data import datasets, download, fake_trees, opening, voc as voc_module
from cwd.data.datasets import build_dataset
from cwd.data.decoded import load_cached
from cwd.system.errors import CwdError


@pytest.fixture
def pascal(tmp_path):
    return fake_trees.voc(tmp_path / "voc")


@pytest.fixture
def ade(tmp_path):
    return fake_trees.ade20k(tmp_path / "ADEChallengeData2016")


def test_voc_is_trained_with_sbds_images(pascal):
    dataset = build_dataset("voc", pascal.parent, "train")
    assert [image.stem for image, _ in dataset.pairs] == [
        "2007_000000",
        "2007_000001",
        "2009_000000",
        "2009_000001",
        "2009_000002",
    ]  # none of VOC's validation images, and each once
    suffixes = [label.suffix for _, label in dataset.pairs]
    assert suffixes == [".png", ".png", ".mat", ".mat", ".mat"]  # VOC's labels where it has them
    assert dataset[0].target.flatten()[:23].tolist() == [*range(21), 255, 0]
    assert dataset[2].target.unique().tolist() == [5, 6]
    assert dataset[1].target.shape == (11, 16)
    assert len(build_dataset("voc", pascal, "val")) == 1


def test_voc_facts():
    layout = datasets.layout_of("voc")
    assert layout.classes[0] == "background"
    assert layout.classes[15] == "person"
    assert layout.palette.shape == (21, 3)
    for index, colour in enumerate(layout.palette):  # the devkit's rule: bits of the index, spread
        bits = [sum(((index >> (3 * k + c)) & 1) << (7 - k) for k in range(3)) for c in range(3)]
        assert colour.tolist() == bits


def test_voc_has_no_public_test_labels(pascal):
    with pytest.raises(CwdError, match="aren't public: use the split val"):
        build_dataset("voc", pascal, "test")


def test_voc_without_sbd(pascal):
    (pascal / "sbd").rename(pascal / "elsewhere")
    with pytest.raises(CwdError, match=r"holds no SBD .* `make data DATASET=voc`"):
        build_dataset("voc", pascal, "train")
    assert len(build_dataset("voc", pascal, "val")) == 1  # its labels are VOC's own


@pytest.mark.parametrize("place", ["SBD", "benchmark_RELEASE/dataset"])
def test_sbd_under_other_names(pascal, place):
    (pascal / place).parent.mkdir(exist_ok=True)
    (pascal / "sbd").rename(pascal / place)
    assert len(build_dataset("voc", pascal, "train")) == 5


def test_sbd_beside_voc(pascal, tmp_path):
    (pascal / "sbd").rename(tmp_path / "sbd")
    dataset = build_dataset("voc", tmp_path, "train")
    assert dataset.names[2] == "../sbd/img/2009_000000.jpg"
    assert len(dataset.checksum) == 64
    assert len(load_cached(dataset, tmp_path / "cache")) == 5


@pytest.mark.parametrize("place", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_voc_given_by_an_inner_folder(pascal, place):
    assert build_dataset("voc", pascal / place, "val").root == pascal


def test_lists_with_blank_lines_and_spaces(pascal):
    lists = pascal / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    for path in (lists / "train.txt", lists / "val.txt", pascal / "sbd" / "train.txt"):
        path.write_text(path.read_text().replace("\n", " \r\n") + "\n\n")
    stems = [image.stem for image, _ in build_dataset("voc", pascal, "train").pairs]
    assert len(stems) == 5
    assert not any(stem.startswith("2008") for stem in stems)  # no validation image


def test_voc_broken_files(pascal):
    mat = pascal / "sbd" / "cls" / "2009_000001.mat"
    dataset = build_dataset("voc", pascal, "train")
    mat.write_bytes(mat.read_bytes()[:100])
    with pytest.raises(CwdError, match=r"2009_000001\.mat can't be read"):
        dataset[3]
    mat.unlink()
    with pytest.raises(CwdError, match=r"2009_000001\.mat is missing, the label"):
        build_dataset("voc", pascal, "train")
    label = pascal / "VOCdevkit" / "VOC2012" / "SegmentationClass" / "2007_000000.png"
    voc_module.save_palette(label, fake_trees.labels([21]))
    with pytest.raises(CwdError, match="has the label 21, expected 0 to 20 or 255"):
        dataset[0]
    (pascal / "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt").unlink()
    with pytest.raises(CwdError, match=r"train\.txt is missing"):
        build_dataset("voc", pascal, "train")


def test_coloured_labels_are_refused(pascal):
    """Converted to RGB, VOC's palette images look right in a viewer and are no labels."""
    label = pascal / "VOCdevkit" / "VOC2012" / "SegmentationClass" / "2007_000000.png"
    fake_trees.save(label, fake_trees.image())
    with pytest.raises(CwdError, match="no label image"):
        build_dataset("voc", pascal, "train")[0]


def test_ade20k(ade):
    dataset = build_dataset("ade20k", ade.parent, "train")
    assert dataset.num_classes == 150
    assert (dataset.classes[0], dataset.classes[149]) == ("wall", "flag")
    assert dataset.palette[2].tolist() == [6, 230, 230]  # sky
    assert dataset[0].target.flatten()[:151].tolist() == [255, *range(150)]  # 0 is unlabelled
    assert [tuple(dataset[i].target.shape) for i in range(2)] == [(10, 16), (10, 18)]
    assert len(build_dataset("ade20k", ade, "val")) == 1


def test_ade20k_broken_files(ade):
    label = ade / "annotations" / "training" / "ADE_train_00000002.png"
    fake_trees.save(label, fake_trees.labels([151], (10, 18)))
    with pytest.raises(CwdError, match="has the label 151, expected 0 to 150"):
        build_dataset("ade20k", ade, "train")[1]
    label.rename(label.with_name("ADE_train_00000009.png"))  # misnamed
    with pytest.raises(CwdError, match=r"ADE_train_00000009\.png has no image beside it"):
        build_dataset("ade20k", ade, "train")
    label.with_name("ADE_train_00000009.png").unlink()
    with pytest.raises(CwdError, match=r"ADE_train_00000002\.png is missing, the label"):
        build_dataset("ade20k", ade, "train")


def test_ade20k_with_one_split(ade):
    for folder in ("images", "annotations"):
        shutil.rmtree(ade / folder / "training")
    assert len(build_dataset("ade20k", ade, "val")) == 1
    with pytest.raises(CwdError, match="no images of the split 'train'"):
        build_dataset("ade20k", ade, "train")


def test_stray_files_beside_cityscapes(tmp_path):
    root = fake_trees.cityscapes(tmp_path / "Cityscapes")
    (root / "leftImg8bit/train/.DS_Store").write_text("")
    (root / "leftImg8bit/train/aachen/Thumbs.db").write_text("")
    (root / "gtFine/train/aachen/aachen_000000_000019_gtFine_color.png").write_text("")
    assert len(build_dataset("cityscapes", tmp_path, "train")) == 1
    shutil.rmtree(root / "gtFine")
    with pytest.raises(CwdError, match=r"gtFine/train is missing, the labels of train"):
        build_dataset("cityscapes", tmp_path, "train")


def test_a_label_image_in_the_place_of_a_photograph(tmp_path):
    root = fake_trees.cityscapes(tmp_path / "cityscapes")
    image = next((root / "leftImg8bit").rglob("*.png"))
    shutil.copy(next((root / "gtFine").rglob("*labelIds.png")), image)
    with pytest.raises(CwdError, match=rf"{image.name} has no colours"):
        build_dataset("cityscapes", root, "train")[0]


def test_a_grey_photograph_is_one(ade):
    path = ade / "images" / "training" / "ADE_train_00000001.jpg"
    fake_trees.save(path, fake_trees.labels(range(160)))
    assert build_dataset("ade20k", ade, "train")[0].image.shape == (3, 10, 16)


def test_an_incomplete_dataset_is_not_sent_in_circles(pascal):
    shutil.rmtree(pascal / "VOCdevkit/VOC2012/ImageSets/Segmentation")
    with pytest.raises(CwdError, match=rf"move {pascal} away and run `make data DATASET=voc`"):
        download.obtain("voc", pascal)


def test_a_misplaced_cityscapes_city(tmp_path):
    root = fake_trees.cityscapes(tmp_path / "cityscapes", count=2)
    (root / "leftImg8bit/train/aachen").rename(root / "leftImg8bit/train/bochum")
    with pytest.raises(CwdError, match=r"labelIds\.png has no image beside it"):
        build_dataset("cityscapes", root, "train")


def test_part_of_a_dataset_is_not_taken_for_the_whole(tmp_path):
    fake_trees.cityscapes(tmp_path / "cityscapes", splits=("train", "val"))
    with pytest.raises(CwdError, match=r"has 1 images in train, expected 2975: .*set data\.train"):
        opening.open_data(Data("cityscapes"), tmp_path)
    with pytest.raises(CwdError, match="has 1 images in train and 2 are asked for"):
        opening.open_data(Data("cityscapes", train=2, val=1), tmp_path)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("cityscapes", {"train": 2975, "val": 500, "test": 1525}),
        ("voc", {"train": 10582, "val": 1449}),
        ("ade20k", {"train": 20210, "val": 2000}),
        ("camvid", {"train": 367, "val": 101, "test": 233}),
    ],
)
def test_official_counts(name, counts):
    assert datasets.layout_of(name).counts == counts


def test_make_data_compares_counts(pascal, ade):
    with pytest.raises(CwdError, match="has 5 images in train, expected 10582"):
        download.obtain("voc", pascal)
    with pytest.raises(CwdError, match="has 2 images in train, expected 20210"):
        download.obtain("ade20k", ade)
    with pytest.raises(CwdError, match=r"ADEChallengeData2016\.zip"):
        download.obtain("ade20k", pascal)


@pytest.fixture
def server(tmp_path):
    """Address of an HTTP server that has the files of `tmp_path`."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def archive(path, folder, inside):
    """A tar of `folder`, which is called `inside` in it; returns its checksum."""
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, inside)
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_voc_and_sbd_are_downloaded_and_unpacked(tmp_path, server, monkeypatch):
    source = fake_trees.voc(tmp_path / "source")
    (source / "sbd" / "inst").mkdir()
    md5 = archive(tmp_path / "voc.tgz", source / "VOCdevkit", "VOCdevkit")
    known = {"url": f"{server}/voc.tgz", "md5": md5, "filename": "voc.tgz"}
    known = voc.DATASET_YEAR_DICT["2012"] | known
    monkeypatch.setitem(voc.DATASET_YEAR_DICT, "2012", known)
    md5 = archive(tmp_path / "benchmark.tgz", source / "sbd", "benchmark_RELEASE/dataset")
    monkeypatch.setattr(SBDataset, "url", f"{server}/nowhere.tgz")
    monkeypatch.setattr(SBDataset, "md5", md5)
    with pytest.raises(CwdError, match="SBD could not be got"):
        download.obtain("voc", tmp_path / "data")
    assert (tmp_path / "data/voc/VOCdevkit/VOC2012/JPEGImages").is_dir()  # what was got is kept
    monkeypatch.setattr(SBDataset, "url", f"{server}/benchmark.tgz")
    with pytest.raises(CwdError, match="expected 10582"):  # everything is there, and then counted
        download.obtain("voc", tmp_path / "data")
    assert len(build_dataset("voc", tmp_path / "data", "train")) == 5


def test_label_values_survive_jpeg_images(pascal):
    """The image is JPEG and may change by a little; the label is never resampled or recoded."""
    sample = build_dataset("voc", pascal, "val")[0]
    assert sample.target.flatten()[:22].tolist() == [*range(21), 255]
    buffer = io.BytesIO((pascal / "VOCdevkit/VOC2012/JPEGImages/2008_000000.jpg").read_bytes())
    picture = np.asarray(fake_trees.Image.open(buffer).convert("RGB"))
    assert (sample.image.permute(1, 2, 0).numpy() == picture).all()


def test_facts_are_the_official_ones():
    facts = datasets.facts()
    assert facts.loc["voc", ["classes", "train", "val"]].tolist() == [21, "10,582", "1,449"]
    # 3,475 images of 2048x1024, four bytes a pixel
    assert facts.loc["cityscapes", "decoded (GB)"] == f"{3475 * 2048 * 1024 * 4 / 1e9:.1f}"
    assert "scenes" not in facts.index
