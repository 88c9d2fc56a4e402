"""What one process, or each of those that torchrun started, makes of the same input.

`training/test_distributed.py` runs this as a script in one process and in two, and compares what
they wrote.
"""

import contextlib
import copy
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from torch import nn

from cwd import __main__, losses
from cwd.config.run import Data, Run
from cwd.config.schedule import ClassificationSchedule, DetectionSchedule, Schedule
from cwd.data.batches import Batches
from cwd.system import distributed, paths
from cwd.system.distributed import join, mine, total
from cwd.system.errors import CwdError
from cwd.system.sync_layers import synchronise
from cwd.training import checkpoint, loop
from cwd.training.order import groups
from cwd.training.run_folder import RunFolder
from cwd.training.tasks import segmentation

DATA = Data("scenes", size=(32, 64), train=12, val=12)
SCHEDULE = Schedule(steps=4, batch=4, crop=(32, 64), checkpoint_every=2, precision="fp32")
STUDENT = Run(DATA, "PSPNet-R18(0.125)", SCHEDULE)
TEACHER = Run(DATA, "PSPNet-R18(0.25)", SCHEDULE)
RUNS = {
    "alone": STUDENT,
    "PI + HO + CW_f": replace(STUDENT, recipe="PI + HO + CW_f", teacher=TEACHER),
    "others": replace(
        STUDENT,
        recipe="CW_f(align=conv-bn-relu) + CW_s + IFV_f + PA_f + LOCAL_f + AT_f + MIMIC_f + CD_f",
        teacher=TEACHER,
    ),
    "CT_f": replace(STUDENT, recipe="CT_f", teacher=TEACHER),
    "beyond": replace(
        STUDENT,
        recipe="MGD_b + AFDCD_b + CIRKD_f(pixels=50, regions=20) + BPKD_s + DIST_s + LSKD_s",
        teacher=TEACHER,
    ),
    "one image each": replace(STUDENT, schedule=replace(SCHEDULE, batch=2, steps=2)),
    "no auxiliary loss": replace(STUDENT, schedule=replace(SCHEDULE, aux_weight=0.0, steps=2)),
    "class weights": replace(
        STUDENT, schedule=replace(SCHEDULE, steps=2, class_weights=(0.3,) * 9 + (3,) * 10)
    ),
    "Deeplab": replace(STUDENT, network="Deeplab-R18(0.125)"),
}
RUNS["MobileNetV2"] = replace(RUNS["no auxiliary loss"], network="PSPNet-MBV2(0.35)")
# of detectors and a classifier, in single precision; those of RetinaNet depend on each image alone
SCENES = Data("scenes", size=(64, 96), train=12, val=5)
DETECTION = DetectionSchedule(
    steps=2, batch=4, short=64, long=96, lr=1e-3, warmup=1, precision="fp32"
)
CROPS = Data("crops", size=(64, 128), train=16, val=8)
CLASSIFICATION = ClassificationSchedule(
    steps=2, batch=8, crop=32, short=36, lr=0.05, precision="fp32"
)


def distilled(data, schedule, recipe, name):
    """The narrower of two networks, taught by the wider."""
    student, teacher = (Run(data, name.format(width), schedule) for width in (0.125, 0.25))
    return replace(student, recipe=recipe, teacher=teacher)


DETECTORS = {
    kind: distilled(SCENES, DETECTION, recipe, f"{kind}-R18({{}}, fpn=16{rest})")
    for kind, recipe, rest in (
        ("RetinaNet", "CW_fpn + Heo + CT_fpn", ""),
        ("FasterRCNN", "Chen + Wang", ", regions=16"),
        ("MaskRCNN", "CT_fpn", ", regions=16"),
        ("RepPoints", "CW_neck + Zhang", ""),
    )
}
# a MobileNetV1 as narrow makes 7e-3 of rounding, as of a change of its first weights by 1e-7
CLASSIFIER = distilled(CROPS, CLASSIFICATION, "CT_f", "Classifier-R18({}, stride=8)")
RESUMED = replace(RUNS["PI + HO + CW_f"], seed=1)
PROFILE = """
about: two commands that must agree
data: {name: scenes, size: [32, 64], train: 12, val: 12}
schedule: {steps: 2, batch: 4, crop: [32, 64], precision: fp32}
teacher: {network: PSPNet-R18(0.25)}
student: {network: PSPNet-R18(0.125)}
seeds: [0]
allow_weak_teacher: true
"""


def normalise(kind, dtype=torch.float64):
    """Batch norm forward, backward, twice backward, and in eval mode."""
    torch.manual_seed(1)
    whole = (3 * torch.randn(4, 3, 5, 6) + 1).to(dtype)
    norm = kind(3)
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    layer = synchronise(nn.Sequential(norm.to(torch.float64 if dtype == torch.float64 else None)))
    x = mine(whole).requires_grad_()
    y = layer(x)
    (gradient,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
    (gradient.flatten(1).norm(dim=1) - 1).square().sum().backward()
    state = {name: value.clone() for name, value in layer.state_dict().items()}
    return {
        "rows": {"y": y.detach(), "gradient": gradient.detach(), "second": x.grad},
        "eval": layer.eval()(mine(whole)).detach(),
        # every process has the sum of its own rows
        "weight": total(layer[0].weight.grad),
        "bias": total(layer[0].bias.grad),
        "state": state,
    }


def drop():
    """What dropout makes of the same seed, and that it does nothing in eval mode."""
    found = {}
    for layer in (nn.Dropout2d(0.3), nn.Dropout(0.3)):
        for dtype in (torch.float32, torch.bfloat16):
            for order in (torch.contiguous_format, torch.channels_last):
                torch.manual_seed(2)
                whole = torch.randn(4, 6, 5, 7).to(dtype).contiguous(memory_format=order)
                module = synchronise(nn.Sequential(copy.deepcopy(layer)))
                name = f"{type(layer).__name__} {dtype} {order}"
                found[name] = module(mine(whole))
                assert module.eval()(whole).equal(whole)
    return found


def small_things(folder):
    """Turns, agreement, and averages."""
    distributed.in_turns(lambda: (folder / "turns").open("a").write(f"{distributed.rank()}"))
    linear = nn.Linear(2, 3)
    nn.init.constant_(linear.weight, distributed.rank())
    linear.weight.grad = torch.full((3, 2), float(distributed.rank()))
    distributed.average_gradients(linear)
    distributed.same_tensors(linear)
    return {
        "agreed": distributed.agreed(f"process {distributed.rank()}"),
        "gradient": linear.weight.grad,
        "weight": linear.weight.detach(),
        "average": distributed.average(torch.tensor(float(distributed.rank()))),
    }


def train_all(runs, folder, place):
    """Train runs, those that are alike together."""
    for group in groups(runs):
        failed = loop.train_together(group, allow_weak_teacher=True, **place | {"runs": folder})
        assert failed == {}


def complaint(run, place):
    """The sentence with which a run is refused."""
    try:
        loop.train(run, allow_weak_teacher=True, **place)
    except CwdError as error:
        return str(error)
    return ""


def one_is_not_finite(run, place):
    """The sentence where the loss of the last process becomes infinite."""
    original, calls = losses.ChannelWise.forward, []

    def forward(self, s, t, target=None):
        calls.append(0)
        last = distributed.rank() == distributed.processes() - 1
        return original(self, s, t) * (float("inf") if last and len(calls) == 3 else 1)

    with mock.patch.object(losses.ChannelWise, "forward", forward):
        return complaint(run, place)


def in_double():
    """Compute in double precision, where rounding hides nothing."""

    def in_single(function):
        def call(*args, **kwargs):
            torch.set_default_dtype(torch.float32)
            try:
                return function(*args, **kwargs)
            finally:
                torch.set_default_dtype(torch.float64)

        return call

    def enlarge(score, size):
        return F.interpolate(score, size=size, mode="bilinear", align_corners=True)

    def batch(self, step):
        images, target = batches(self, step)
        return images.double(), target

    batches, measure = in_single(Batches.__call__), in_single(segmentation.evaluate)
    torch.set_default_dtype(torch.float64)
    loop.pick_precision = lambda *_: "64-true"
    segmentation.upsample = enlarge
    segmentation.evaluate = lambda student, data, **_: measure(copy.deepcopy(student).float(), data)
    Batches.__call__ = batch


def interrupted(run, place):
    """Train up to the first checkpoint."""
    original = checkpoint.save

    def save(student):
        original(student)
        raise KeyboardInterrupt

    with mock.patch.object(checkpoint, "save", save), contextlib.suppress(KeyboardInterrupt):
        loop.train(run, allow_weak_teacher=True, **place)


def main(folder, data_root, half):
    """Everything; `half` is where one process leaves a run for the others to go on with."""
    torch.set_num_threads(1)
    join("cpu")
    place = {"runs": folder / "double", "data_root": data_root, "device": "cpu"}
    found = {
        "BatchNorm2d": normalise(nn.BatchNorm2d),
        "BatchNormAct2d": normalise(BatchNormAct2d),
        "bfloat16": normalise(nn.BatchNorm2d, torch.bfloat16),
        "dropout": drop(),
        "small": small_things(folder),
    }

    paths.RUNS = folder / "single"
    (folder / "tiny.yaml").write_text(PROFILE)
    sys.argv = ["cwd", "train", "--profile", str(folder / "tiny.yaml"), "--recipe", "CW_s"]
    sys.argv += ["--seed", "1", "--data-root", str(data_root), "--device", "cpu"]
    assert __main__.main() == 0

    tasks = (*DETECTORS.values(), CLASSIFIER)
    train_all([each for run in tasks for each in (run.teacher, run)], folder / "tasks", place)
    in_double()
    train_all([TEACHER, *RUNS.values()], folder / "double", place)
    partial = RunFolder(place["runs"], RESUMED).partial
    teacher = RunFolder(place["runs"], RESUMED.teacher).done
    if distributed.processes() == 1:
        interrupted(RESUMED, place)
        shutil.copytree(partial, half / "student")
        shutil.copytree(teacher, half / "teacher")
    elif distributed.rank() == 0:
        shutil.copytree(half / "student", partial)
        teacher.rename(folder / "own")  # a run goes on with the teacher that it began with
        shutil.copytree(half / "teacher", teacher)
    distributed.wait()
    loop.train(RESUMED, allow_weak_teacher=True, **place)
    if distributed.processes() > 1 and distributed.rank() == 0:
        shutil.rmtree(teacher)
        (folder / "own").rename(teacher)
    distributed.wait()
    found["odd batch"] = complaint(replace(STUDENT, schedule=replace(SCHEDULE, batch=3)), place)
    found["not finite"] = one_is_not_finite(replace(RUNS["PI + HO + CW_f"], seed=2), place)
    torch.save(found, folder / f"{distributed.rank()}.pt")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
