"""COCO's format: read as pycocotools reads it, and every way in which it can be broken."""

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from cwd.data import fake_trees
from cwd.data.detection.coco import build_coco, to_learn
from cwd.models.detection.outputs import Objects
from cwd.system.errors import CwdError

REMEDY = r".*get http://images\.cocodataset\.org/annotations/.*/val2017\.zip, .*see data/"
MEND = "correct it, or get the dataset's own file again"


@pytest.mark.parametrize(
    ("name", "split", "count", "crowds"),
    [("coco", "train", 4, 1), ("coco", "val", 3, 1), ("scenes", "train", 5, 0)],
)
def test_read_as_pycocotools_reads_it(coco, drawn, name, split, count, crowds):
    dataset = build_coco(name, {"coco": coco.parent, "scenes": drawn}[name], split, masks=True)
    theirs = COCO(str(dataset.file.path))
    assert len(dataset) == count
    assert dataset.masked
    assert dataset.image_ids == tuple(sorted(theirs.getImgIds()))
    assert dataset.category_ids == tuple(sorted(theirs.getCatIds()))
    named = theirs.loadCats(list(dataset.category_ids))
    assert dataset.classes == tuple(category["name"] for category in named)
    for index, image_id in enumerate(dataset.image_ids):
        image, objects = dataset[index]
        about, expected = theirs.imgs[image_id], theirs.imgToAnns[image_id]
        size = about["height"], about["width"]
        stored = Image.open(dataset.root / dataset.names[index]).convert("RGB")
        assert dataset.names[index].endswith(f"/{about['file_name']}")
        assert dataset.sizes[index].tolist() == list(image.shape[1:]) == list(size)
        assert (image.permute(1, 2, 0).numpy() == np.asarray(stored)).all()
        boxes = [(x, y, x + w, y + h) for x, y, w, h in (one["bbox"] for one in expected)]
        assert objects.boxes.tolist() == np.float32(boxes).reshape(-1, 4).tolist()
        category = [dataset.category_ids[label] for label in objects.labels.tolist()]
        assert category == [one["category_id"] for one in expected]
        assert objects.area.tolist() == [np.float32(one["area"]) for one in expected]
        assert objects.crowd.tolist() == [bool(one["iscrowd"]) for one in expected]
        masks = np.array([theirs.annToMask(one) for one in expected]).reshape(-1, *size)
        assert (objects.masks.numpy() == masks).all()
        types = [part.dtype for part in objects]
        assert types == [torch.float32, torch.int64, torch.float32, torch.bool, torch.uint8]
        crowds -= objects.crowd.sum()
    assert crowds == 0


def test_missing(coco, drawn, tmp_path):
    with pytest.raises(CwdError, match=rf"nowhere holds no coco .*: {REMEDY}"):
        build_coco("coco", tmp_path / "nowhere", "val")
    with pytest.raises(CwdError, match="no detection dataset 'voc': use one of scenes, coco"):
        build_coco("voc", tmp_path, "val")
    with pytest.raises(CwdError, match="no split 'test' with annotations: use one of train, val"):
        build_coco("coco", coco, "test")
    with pytest.raises(CwdError, match=r"instances_test\.json is missing.*drawn again"):
        build_coco("scenes", drawn, "test")
    (coco / "annotations" / "instances_val2017.json").unlink()
    with pytest.raises(CwdError, match=rf"instances_val2017\.json is missing.*: {REMEDY}"):
        build_coco("coco", coco, "val")
    (coco / "train2017" / "000000000107.jpg").unlink()
    with pytest.raises(CwdError, match=rf"000000000107\.jpg is missing.*: {REMEDY}"):
        build_coco("coco", coco, "train")
    (coco / "train2017").rename(coco / "elsewhere")
    with pytest.raises(CwdError, match=r"train2017/000000000007\.jpg is missing"):
        build_coco("coco", coco, "train")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ('{"images": [', "can't be read as JSON"),
        (b"\xff\xfe\x00", "can't be read as JSON"),
        ("[]", r"has \[\] for all of it, which should be an object"),
        ('{"images": [], "annotations": {}}', "has {} for annotations, which should be a valid"),
        ('{"images": [], "annotations": []}', "has no categories"),
        ('{"images": [], "annotations": [], "categories": []}', "lists no images"),
        (
            '{"images": [{"id": 1, "file_name": "a.jpg", "height": 9, "width": 9}], '
            '"annotations": [], "categories": []}',
            "lists no categories",
        ),
    ],
)
def test_no_annotation_file(coco, content, found):
    path = coco / "annotations" / "instances_val2017.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CwdError, match=rf"instances_val2017\.json {found}.*: {MEND}"):
        build_coco("coco", coco, "val")


@pytest.mark.parametrize(
    ("part", "number", "change", "found"),
    [
        ("annotations", 1, {"image_id": 5}, r"the image 5 in annotations\[1\]"),
        ("annotations", 2, {"category_id": 12}, r"the category 12 in annotations\[2\]"),
        ("annotations", 1, {"id": 1000}, "the id 1000 twice in annotations"),
        ("images", 1, {"id": 7}, "the id 7 twice in images"),
        ("categories", 0, {"id": 90}, "the id 90 twice in categories"),
        ("categories", 0, {"name": "class 90"}, "the name 'class 90' twice in categories"),
        ("annotations", 0, {"bbox": [1, 2, 3]}, r"no annotations\[0\]\.bbox\[3\]"),
        ("annotations", 0, {"bbox": [1, 2, 3, float("nan")]}, "nan for .*be a finite number"),
        ("annotations", 0, {"bbox": [1, 2, 3, None]}, "None for .* be a valid number"),
        ("annotations", 0, {"bbox": ["1", "2", "3", "4"]}, "'1' for .* be a valid number"),
        ("annotations", 0, {"bbox": [1, 2, 1e300, 4]}, "1e[+]300 for .* less than or equal"),
        ("images", 0, {"file_name": "000000000107.jpg"}, "the file_name '000000000107.jpg' twice"),
        ("annotations", 0, {"bbox": None}, r"None for annotations\[0\]\.bbox, which should be"),
        ("annotations", 0, {"area": -1}, r"-1 for .*\.area, which should be .* equal to 0"),
        ("annotations", 0, {"iscrowd": 2}, r"2 for .*\.iscrowd, .* less than or equal to 1"),
        ("images", 0, {"height": 0}, r"0 for images\[0\]\.height, which should be greater than 0"),
        ("images", 0, {"height": 10**30}, r"10{9,}.* for .*\.height, which should be less"),
        ("images", 0, {"file_name": None}, r"None for images\[0\]\.file_name"),
        ("images", 0, {"id": "7"}, r"'7' for images\[0\]\.id, which should be a valid integer"),
    ],
)
def test_bad_entry(coco, edit, part, number, change, found):
    edit(lambda content: content[part][number].update(change))
    with pytest.raises(CwdError, match=rf"instances_val2017\.json has {found}.*: {MEND}"):
        build_coco("coco", coco, "val")


@pytest.mark.parametrize(("part", "key"), [("images", "width"), ("annotations", "bbox")])
def test_missing_field(coco, edit, part, key):
    edit(lambda content: content[part][1].pop(key))
    with pytest.raises(CwdError, match=rf"has no {part}\[1\]\.{key}"):
        build_coco("coco", coco, "val")
    edit(lambda content: content[part].__setitem__(1, "text"))
    with pytest.raises(CwdError, match=rf"has 'text' for {part}\[1\], which should be an object"):
        build_coco("coco", coco, "val")


def test_fields_that_may_be_missing(coco, edit):
    def change(content):
        content["annotations"][1]["bbox"][2:] = [0, 5]
        for annotation in content["annotations"]:
            del annotation["area"], annotation["iscrowd"], annotation["segmentation"]

    edit(change)
    dataset = build_coco("coco", coco, "val")
    every, objects = dataset.annotated(0), dataset[0].objects
    assert every.area[1] == 0  # a box without width is annotated, but no object
    assert objects.boxes.equal(every.boxes[[0, 2, 3]])
    sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
    torch.testing.assert_close(objects.area, sides.prod(dim=1), rtol=1e-5, atol=0)
    assert not every.crowd.any()


def test_damaged_images(coco):
    dataset = build_coco("coco", coco, "val")
    path = coco / dataset.names[1]
    whole = path.read_bytes()
    fake_trees.save(path, fake_trees.image(0, (10, 12)))
    with pytest.raises(CwdError, match=r"107\.jpg is 12x10 pixels and .*json says 104x64"):
        dataset[1]
    path.write_bytes(whole[:-100])
    with pytest.raises(CwdError, match=r"107\.jpg can't be decoded"):
        dataset[1]


def test_trainable(coco, edit):
    dataset = build_coco("coco", coco, "val")
    assert dataset.trainable().image_ids == (7, 107)  # the last has no objects
    assert dataset.first(1).trainable().image_ids == (7,)
    assert dataset.first(2).names == dataset.names[:2]
    assert dataset.first(2).sizes.tolist() == [[64, 96], [64, 104]]
    assert dataset.trainable(64).image_ids == (7, 107)
    with pytest.raises(CwdError, match="no object to learn in 3 images of at least 65x65 pixels"):
        dataset.trainable(65)

    def only_crowds(content):
        for annotation in content["annotations"]:
            if annotation["image_id"] == 7:
                annotation["iscrowd"] = 1

    edit(only_crowds)
    assert build_coco("coco", coco, "val").trainable().image_ids == (107,)


def test_what_is_learned():
    # one as it should be, no width, narrow, partly outside, half a pixel inside, outside; then a
    # crowd, and one without area
    boxes = [[0, 0, 10, 10], [0, 0, 0, 10], [5, 5, 5.9, 10], [-5, -5, 10, 10], [19.5, 0, 30, 10]]
    boxes += [[30, 0, 40, 10], [0, 0, 10, 10], [0, 0, 10, 10]]
    area = torch.tensor([50.0] * 7 + [0])
    objects = Objects(torch.tensor(boxes), torch.arange(8), area, torch.arange(8) == 6)
    kept, clipped = to_learn(objects, torch.tensor([12, 20]))
    assert kept.nonzero().flatten().tolist() == [0, 3]
    assert clipped[3].tolist() == [0, 0, 10, 10]
    assert clipped[4].tolist() == [19.5, 0, 20, 10]
    each = torch.tensor([[12, 20]] * 4 + [[12, 21]] * 4)  # images that are wider
    assert to_learn(objects, each)[0].nonzero().flatten().tolist() == [0, 3, 4]


def test_checksum(coco, edit):
    dataset = build_coco("coco", coco, "val")
    first, pixels = dataset.checksum, dataset.pixels
    assert first == build_coco("coco", coco, "val").checksum
    assert dataset.first(2).checksum not in (first, dataset.first(1).checksum)
    fake_trees.save(coco / dataset.names[0], fake_trees.image(9, (64, 96)))
    other = build_coco("coco", coco, "val")
    assert other.checksum == first  # recorded results have it: no image is read
    assert other.pixels != pixels
    edit(lambda content: content["annotations"][0].update(area=1.5))
    assert build_coco("coco", coco, "val").checksum != first
