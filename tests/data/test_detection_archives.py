"""COCO's archives from a local server: got, unpacked and counted, and what can go wrong."""

import shutil
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from cwd import __main__
from cwd.config.run import Data
from cwd.data import download, fake_trees
from cwd.data.detection import coco
from cwd.data.detection.coco import ARCHIVES, build_coco, missing_archives
from cwd.system.errors import CwdError
from cwd.tools.needs import dataset_needs

GOT = "4 train, 3 val, 80 classes; every file decoded and checked."


@pytest.fixture
def official(monkeypatch):
    """A dataset of four and three images counts as complete."""
    small = replace(coco.COCO_LAYOUTS["coco"], counts={"train": 4, "val": 3})
    monkeypatch.setitem(coco.COCO_LAYOUTS, "coco", small)


@pytest.fixture
def served(tmp_path, server, monkeypatch):
    """Archives of a small COCO on the server; returns their folder."""
    source, folder = fake_trees.coco(tmp_path / "source"), tmp_path / "zips"
    folder.mkdir()
    known = []
    for archive in ARCHIVES:
        path = folder / Path(archive.url).name
        with zipfile.ZipFile(path, "w") as packed:
            for file in sorted((source / archive.inside).iterdir()):
                packed.write(file, f"{archive.inside}/{file.name}")
        url, size = f"{server}/zips/{path.name}", path.stat().st_size
        known.append(archive._replace(url=url, size=size))
    monkeypatch.setattr(coco, "ARCHIVES", tuple(known))
    return folder


def test_got_and_checked(tmp_path, served, official, capsys):
    said = download.obtain("coco", tmp_path / "data")
    assert said == f"coco is in {tmp_path / 'data/coco'}: {GOT}"
    found = sorted(path.name for path in (tmp_path / "data/coco").iterdir())
    assert found == ["annotations", "train2017", "val2017"]  # no archive is left
    assert "downloading COCO's train2017.zip, 0.0 GB" in capsys.readouterr().err
    shutil.rmtree(served)
    assert download.obtain("coco", tmp_path / "data/coco") == said  # nothing is got again
    (tmp_path / "data/coco").rename(tmp_path / "data/COCO")
    assert "COCO: 4 train" in download.obtain("coco", tmp_path / "data")


def test_part_of_it_is_kept(tmp_path, served, official):
    hidden = (served / "train2017.zip").rename(tmp_path / "elsewhere.zip")
    with pytest.raises(CwdError, match=r"COCO's train2017\.zip could not be got .*, put it into"):
        download.obtain("coco", tmp_path)
    assert [a.inside for a in missing_archives(tmp_path / "coco")] == ["train2017"]
    for archive in ("val2017.zip", "annotations_trainval2017.zip"):
        (served / archive).unlink()  # what is there isn't asked for
    hidden.rename(served / "train2017.zip")
    assert "4 train" in download.obtain("coco", tmp_path)


def test_an_interrupted_download_begins_again_and_so_does_a_damaged_one(tmp_path, served, official):
    partial, path = tmp_path / "coco" / ".val2017.partial", served / "val2017.zip"
    partial.mkdir(parents=True)
    (partial / path.name).write_bytes(b"PK cut short")
    whole = path.read_bytes()
    blank = b"\0" * len(whole)
    for damaged in (blank, whole[:200] + blank[:600] + whole[800:]):  # as long as it should be
        path.write_bytes(damaged)
        with pytest.raises(CwdError, match=r"COCO's val2017\.zip could not be got \(.*zip|Bad CRC"):
            download.obtain("coco", tmp_path)
    path.write_bytes(whole)
    (partial / path.name).write_bytes(whole[:-9])
    assert "3 val" in download.obtain("coco", tmp_path)


def test_counts_and_images(tmp_path, official, monkeypatch, capsys):
    root = fake_trees.coco(tmp_path / "coco")
    path = root / build_coco("coco", root, "val").names[2]
    monkeypatch.setattr(sys, "argv", ["cwd", "data", "coco", "--data-root", str(tmp_path)])
    assert __main__.main() == 0
    assert GOT in capsys.readouterr().out
    path.write_bytes(path.read_bytes()[:-200])
    assert __main__.main() == 2
    assert f"{path} can't be decoded" in capsys.readouterr().err
    path.unlink()
    assert __main__.main() == 2
    assert f"{path} is missing" in capsys.readouterr().err


def test_needs(tmp_path):
    (need,) = dataset_needs(Data("coco"), tmp_path)
    assert need.download == 19_336_861_798 + 815_585_330 + 252_907_541
    assert need.size == 2 * need.download
    root = fake_trees.coco(tmp_path / "coco")
    (need,) = dataset_needs(Data("coco"), tmp_path)
    assert (need.what, need.size, need.download) == (f"coco: present in {root}", 0, 0)
    shutil.rmtree(root / "val2017")
    (need,) = dataset_needs(Data("coco"), tmp_path)
    assert need.download == 815_585_330
    assert need.what.startswith(f"coco: val2017 missing in {root}")
