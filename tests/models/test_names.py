"""One grammar for names: what is accepted, what it means, and what is refused."""

import subprocess
import sys

import pytest

from cwd.models import names
from cwd.models.build import build_network
from cwd.system.errors import CwdError


@pytest.mark.parametrize(
    ("name", "head", "backbone", "options"),
    [
        ("PSPNet-R18", "PSPNet", "R18", {}),
        ("Deeplab-MBV2(0.5)", "Deeplab", "MBV2", {"width": 0.5}),
        ("PSPNet-R18( width = .5 )", "PSPNet", "R18", {"width": 0.5}),
        ("PSPNet-R101(stem=plain, 1)", "PSPNet", "R101", {"stem": "plain"}),
        ("FCN-R50()", "FCN", "R50", {}),
        ("Classifier-R50(0.5,stride=16)", "Classifier", "R50", {"width": 0.5, "stride": 16}),
        ("Classifier-MBV1", "Classifier", "MBV1", {"stem": "plain"}),
        ("RetinaNet-R18(norm=group)", "RetinaNet", "R18", {"norm": "group", "stem": "plain"}),
        ("RepPoints-X101-64x4d(fpn=64)", "RepPoints", "X101-64x4d", {"fpn": 64, "stem": "plain"}),
        ("MaskRCNN-R18(factor=0.25, fpn=16, anchor=8, regions=32)", "MaskRCNN", "R18",
         {"width": 0.25, "fpn": 16, "anchor": 8, "regions": 32}),
    ],
)  # fmt: skip
def test_what_names_say(name, head, backbone, options):
    assert names.parse_name(name) == names.Architecture(name, head, backbone, **options)


def test_kinds():
    detectors = dict.fromkeys(("FasterRCNN", "MaskRCNN", "RetinaNet", "RepPoints"), names.DETECTOR)
    for head in (*names.HEADS, "anything else"):
        expected = {"Classifier": names.CLASSIFIER, **detectors}.get(head, names.SEGMENTATION)
        assert names.kind_of(f"{head}-R50(0.5)") == expected
    assert [head for head in names.HEADS if names.has_masks(f"{head}-R18")] == ["MaskRCNN"]


@pytest.mark.parametrize(
    ("head", "rest"),
    [
        *[("PSPNet", rest) for rest in (
            "", "-R19", "-MBV1", "-R18 ", "-R18(0)", "-R18(0.1)", "-R18(-1)", "-R18(1.2.3)",
            "-R18(1e400)", "-R18(999999)", "-R18(٣)", "-R18(half)", "-R18(0.5, 0.5)",
            "-R18(0.5, width=0.5)", "-R18(=0.5)", "-R18(depth=2)", "-R18(stem=deeper)",
            "-R18(0.5, stem=plain)", "-MBV2(stem=plain)", "-MBV2(0.3)", "-R18(0.5",
        )],
        ("pspnet", "-r18"), ("SSD", "-R50"), ("Deeplab", "-R19"), ("FCN", "-R18"),
        ("FCN", "-R50(0.5)"), ("classifier", "-R50"),
        *[("Classifier", rest) for rest in (
            "", "-MBV2", "-R18(0.1)", "-MBV1(0.3)", "-MBV1(2)", "-MBV1(stride=4)", "-R18(stride=)",
            "-R18(stride=8, stride=8)", "-R18(stem=plain)",
        )],
        *[("FasterRCNN", rest) for rest in (
            "", "-R50(norm=group)", "-R50(fpn=20)", "-R50(fpn=0)", "-R50(0.3)", "-R50(anchor=-8)",
            "-R50(fpn=16, fpn=16)", "-X101-32x4d(0.5)", "-MBV2",
        )],
        ("RetinaNet", "-R51"), ("RetinaNet", "-R50(regions=16)"), ("RepPoints", "-R50(anchor=16)"),
        ("MaskRCNN", "-R50(regions=4)"),
    ],
)  # fmt: skip
def test_what_is_refused(head, rest):
    with pytest.raises(CwdError) as error:
        build_network(head + rest, 19)
    said = str(error.value)
    assert head + rest in said
    assert "\n" not in said
    assert said.endswith(".")


@pytest.mark.parametrize(
    ("name", "classes"), [("PSPNet-R18", 1), ("Classifier-R18", 1), ("RepPoints-R18", 0)]
)
def test_too_few_classes(name, classes):
    with pytest.raises(CwdError, match=f"num_classes is {classes}, give at least {classes + 1}"):
        build_network(name, classes)


def test_names_are_read_without_the_networks_libraries():
    code = "import sys, cwd.models.names; print({'torch', 'timm', 'torchvision'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
