"""The zip for the Cityscapes server, and the rehearsal of a profile."""

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from cwd.data.datasets import build_dataset
from cwd.data.scenes.draw import scenes_root
from cwd.evaluation.miou import scores
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.tools import rehearse as rehearsing
from cwd.tools.rehearse import rehearse
from cwd.tools.submission import submission

# the ids that are evaluated, as Cityscapes' documentation lists them
EVALUATED = [7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33]


@pytest.fixture
def run(monkeypatch, trained, student):
    monkeypatch.setattr(paths, "RUNS", trained(student).root)
    return student


def test_the_zip_is_what_the_server_expects(run, trained, data_root, tmp_path):
    path = submission(run, data_root, "val", "cpu", tmp_path / "out.zip")
    val = build_dataset("scenes", scenes_root(run.data, data_root), "val")
    confusion = torch.zeros(19, 19, dtype=torch.int64)
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == sorted(image.name for image, _ in val.pairs)
        for (image, label), sample in zip(val.pairs, val, strict=True):
            picture = Image.open(io.BytesIO(archive.read(image.name)))
            assert picture.mode == "L"
            ids = np.asarray(picture)
            assert ids.shape == sample.target.shape
            assert set(np.unique(ids)) <= set(EVALUATED)
            known = np.isin(np.asarray(Image.open(label)), EVALUATED)
            pairs = zip(np.asarray(Image.open(label))[known], ids[known], strict=True)
            for true, predicted in pairs:
                confusion[EVALUATED.index(true), EVALUATED.index(predicted)] += 1
    # scored by ids, the files give the run's own mIoU
    expected = trained(run).metrics["miou"]
    assert scores(confusion, val.classes)["miou"] == pytest.approx(expected, abs=0.5)


def test_what_can_not_be_submitted_or_rehearsed(run, data_root, tmp_path):
    for odd, words in (
        (replace(run, seed=7), "train the run first"),
        (replace(run, data=replace(run.data, name="camvid")), "trained on camvid"),
        (run, r"no images in leftImg8bit/test/"),
    ):
        with pytest.raises(CwdError, match=words):
            submission(odd, data_root, "test", "cpu", tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()
    with pytest.raises(CwdError, match="need no rehearsal"):
        rehearse("smoke")


@pytest.fixture
def rehearsed(tmp_path):
    def call(text, steps):
        (tmp_path / "tiny.yaml").write_text(text)
        output = tmp_path / "out"
        return rehearse(str(tmp_path / "tiny.yaml"), steps=steps, device="cpu", output=output)

    return call


def test_a_rehearsal_trains_what_the_profile_names(rehearsed, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.setitem(rehearsing.FULL, "cityscapes", (64, 128))
    text = (paths.PROFILES / "cityscapes.yaml").read_text()
    text = text.replace("PSPNet-R101", "PSPNet-R18(0.25)").replace("512, 512", "32, 64")
    text = text.replace("network: PSPNet-R18, init", "network: PSPNet-R18(0.125), init")
    stale = tmp_path / "out" / "runs" / "finished before"
    stale.mkdir(parents=True)
    table = rehearsed(text, steps=1)
    assert not stale.exists()  # nothing of an earlier time is taken for this one
    assert list(table.index) == ["teacher", "student alone", "PI + HO + CW_f"]
    assert table["network"].tolist() == ["PSPNet-R18(0.25)"] + 2 * ["PSPNet-R18(0.125)"]
    assert (table["peak memory (GiB)"] > 0.1).all()


def test_a_rehearsal_of_detectors(rehearsed, monkeypatch):
    monkeypatch.setitem(rehearsing.FULL, "coco", (64, 96))
    text = yaml.safe_load((paths.PROFILES / "coco.yaml").read_text())
    instance = text["transformation"]["instance"]
    for section in (text["detection"], instance):
        section["schedule"] |= {"batch": 2, "short": 64, "long": 96}
    for pair in (*text["detection"]["pairs"], instance):
        for part, width in (("teacher", 0.25), ("student", 0.125)):
            kind = pair[part]["network"].partition("-")[0]
            pair[part]["network"] = f"{kind}-R18({width}, fpn=16)"
    table = rehearsed(yaml.safe_dump(text), steps=1)
    assert len(table) == 12
    assert table.index[2] == "Faster R-CNN: CW_fpn"
    masked = ["Mask R-CNN: teacher", "Mask R-CNN: student alone", "Mask R-CNN: CT_fpn"]
    assert table.index[-3:].tolist() == masked
    assert set(table["size"]) == {"64x96"}


def test_a_rehearsal_of_classifiers(rehearsed, tmp_path, monkeypatch):
    monkeypatch.setitem(rehearsing.FULL, "imagenet", (40, 48))
    text = yaml.safe_load((paths.PROFILES / "imagenet.yaml").read_text())
    section = text["transformation"]["classification"]
    section["schedule"] |= {"batch": 6, "crop": 32, "short": 36}
    section["teacher"]["network"] = "Classifier-R18(0.25)"
    section["student"]["network"] = "Classifier-MBV1(0.25)"
    table = rehearsed(yaml.safe_dump(text), steps=1)
    names = ["classifier: teacher", "classifier: student alone", "classifier: CT_f"]
    assert table.index.tolist() == names
    assert set(table["size"]) == {"32x32"}
    # the teacher has no steps in the profile, and none here
    configs = sorted((tmp_path / "out/runs").glob("Classifier-R18*/config.json"))
    assert [json.loads(path.read_text())["schedule"]["steps"] for path in configs] == [0]
