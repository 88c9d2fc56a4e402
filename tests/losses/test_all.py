"""What holds for every loss on two maps, whichever it is; the holistic one has its own file."""

import math
import re
from functools import partial

import pytest
import torch
from maps import agree, gradient, maps

from cwd import losses
from cwd.losses import ChannelWise, PixelWise
from cwd.system.device import has_compiler
from cwd.system.errors import CwdError

METRICS = ("kl", "bhattacharyya", "l2", "swapped")
DISTANCES = [
    losses.Mimic(),
    losses.AttentionTransfer(),
    losses.AttentionTransfer(1),
    losses.AttentionTransfer(3),
    losses.LocalAffinity(),
    losses.PairwiseAffinity(),
    losses.PairwiseAffinity(0),
    losses.IntraClassVariation(),
    losses.ChannelMean(),
    losses.Unnormalised(),
    losses.ClassRelations(1),
    losses.Standardised(),
    losses.BoundaryPrivileged(),
    *(kind(tau, m) for kind in (ChannelWise, PixelWise) for m in METRICS for tau in (1, 4)),
]
# zero at equality, negative elsewhere
OTHERS = [losses.ChannelMean("kl"), losses.Unnormalised("kl")]
ALL = DISTANCES + OTHERS
EXTREME = [kind(t, m) for kind in (ChannelWise, PixelWise) for m in METRICS for t in (0.01, 1e3)]
ANY_CHANNELS = ("AttentionTransfer", "LocalAffinity", "PairwiseAffinity", "IntraClassVariation")
TARGET = torch.arange(40).view(2, 4, 5) % 3
TARGET[0, 0, :2] = 255


def name(loss):
    options = ("p", "pool_scale", "temperature", "metric")
    return "-".join([type(loss).__name__, *(str(v) for k, v in vars(loss).items() if k in options)])


every = pytest.mark.parametrize("loss", ALL, ids=name)


def test_every_loss_is_here():
    here = {type(loss).__name__ for loss in ALL}
    # the others have files of their own, those that learn after the paper `test_beyond.py`
    rest = {"ChannelAlignment", "ChannelTransformation", "Holistic"}
    rest |= {"CrossImageRelations", "DenseContrast", "MaskedGeneration"}
    assert here | rest == set(losses.__all__)


@every
def test_gradcheck(loss):
    student, teacher = maps((2, 3, 3, 4))
    target = TARGET[:, :3, :4]
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher, target), (student,))
    value = loss(student, teacher, target)
    value.backward()
    assert value.shape == ()
    assert teacher.grad is None
    assert student.grad.abs().max() > 0


@every
def test_zero_at_equality_and_positive_elsewhere(loss):
    teacher = maps()[1]
    same = teacher.detach().clone().requires_grad_()
    value = loss(same, teacher, TARGET)
    assert value.item() == pytest.approx(0, abs=1e-14)
    if loss in DISTANCES:
        torch.testing.assert_close(gradient(value, same), torch.zeros_like(same))
        assert all(loss(*maps(seed=seed), TARGET) > 1e-6 for seed in range(5))


@every
def test_a_batch_is_the_mean_of_its_images(loss):
    student, teacher = maps()
    apart = [loss(student[i : i + 1], teacher[i : i + 1], TARGET[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(loss(student, teacher, TARGET), sum(apart) / 2)


@every
def test_maps_of_other_channels_and_batches(loss):
    student, teacher = maps(teacher_channels=4)
    if type(loss).__name__ in ANY_CHANNELS:
        assert loss(student, teacher, TARGET).isfinite()
    else:
        with pytest.raises(CwdError, match="3 channels and the teacher map 4"):
            loss(student, teacher, TARGET)
    for odd, words in ((teacher[:1], "same batch"), (teacher[:, :, :0], "can't be compared"),
                       ([1], "give two tensors")):  # fmt: skip
        with pytest.raises(CwdError, match=words):
            loss(student, odd, TARGET)


@every
def test_student_map_of_another_size_is_resized(loss):
    student, teacher = maps()[0][:, :, :2, :3], maps()[1]
    larger = torch.nn.functional.interpolate(student, size=(4, 5), mode="bilinear")
    assert loss(student, teacher, TARGET) == loss(larger, teacher, TARGET)


KINDS = {
    "plain": (lambda x: x, lambda x: x),
    "times 1e4": (lambda x: 1e4 * x, lambda x: 1e4 * x),
    "student 1e4": (lambda x: 1e4 * x, lambda x: x),
    "student zero": (torch.zeros_like, lambda x: x),
    "teacher zero": (lambda x: x, torch.zeros_like),
    "both zero": (torch.zeros_like, torch.zeros_like),
    "student constant": (torch.ones_like, lambda x: x),
    "teacher constant": (lambda x: x, torch.ones_like),
    "dead ReLU": (torch.relu, torch.relu),
    "one dead position": (lambda x: x * (TARGET[:, None] > 0), lambda x: x * (TARGET[:, None] > 1)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", ALL + EXTREME, ids=name)
def test_finite(loss, kind, dtype):
    student, teacher = (
        change(x.detach()).to(dtype) for change, x in zip(KINDS[kind], maps(), strict=True)
    )
    value = loss(student.requires_grad_(), teacher, TARGET)
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert gradient(value, student).isfinite().all()


@every
def test_float32_is_close_to_float64_and_autocast_does_not_make_it_coarse(loss):
    student, teacher = maps((2, 19, 8, 8))
    target = torch.arange(128).view(2, 8, 8) % 19
    exact = loss(student, teacher, target)
    student, teacher = maps((2, 19, 8, 8), torch.float32)
    single = loss(student, teacher, target)
    torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=1e-7)
    # the trainer calls every loss inside autocast
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(student, teacher, target)
    assert value.dtype == torch.float32
    agree(value, single, student)


# one of a kind, and each metric; what torch makes of a graph is its own affair, so C++ is compiled
# for one loss alone, and for the others the graph and its gradient are run as they are
COMPILED = [*{type(loss): loss for loss in ALL}.values(), *(ChannelWise(2, m) for m in METRICS)]
BACKENDS = [*((loss, "aot_eager") for loss in COMPILED), (ChannelWise(), "inductor")]


@pytest.mark.parametrize(("loss", "backend"), BACKENDS)
def test_compiled_equals_eager(loss, backend):
    if backend == "inductor" and not has_compiler():
        pytest.skip("torch.compile needs a C++ compiler")
    student, teacher = maps(dtype=torch.float32)
    eager = loss(student, teacher, TARGET)
    compiled = torch.compile(loss, dynamic=False, backend=backend)
    agree(compiled(student, teacher, TARGET), eager, student)


ODD = (0, -1, math.inf, math.nan, "1", None, [1], True)
transformation = partial(losses.ChannelTransformation, 3, 4)
generation = partial(losses.MaskedGeneration, 3, 4)
contrast = partial(losses.DenseContrast, 3, 4)
relations = partial(losses.CrossImageRelations, 3, 4, 5)


@pytest.mark.parametrize(
    ("kind", "option", "values"),
    [
        *[(kind, "T", ODD) for kind in (ChannelWise, PixelWise)],
        (losses.AttentionTransfer, "p", ODD),
        (losses.PairwiseAffinity, "pool_scale", (2, -0.1, *ODD[3:])),
        (losses.IntraClassVariation, "ignore_index", ("a", None, 1.5, True)),
        *[(kind, "metric", ("cosine",))
          for kind in (ChannelWise, PixelWise, losses.ChannelMean, losses.Unnormalised)],
        (transformation, "hidden", (-1.0, "many", math.nan)),
        (transformation, "kernel", (2, "3x3")),
        (transformation, "activation", ("gelu",)),
        (generation, "masked", (1,)), (generation, "positions", ("all",)),
        (contrast, "fd", (-1,)), (contrast, "T", (0,)), (contrast, "patch", (0.5,)),
        (relations, "pixel", ("much",)), (relations, "regions", (0,)),
        (losses.ClassRelations, "images", (math.inf,)),
        (losses.BoundaryPrivileged, "edge", (math.nan,)),
        (losses.BoundaryPrivileged, "window", (4,)),
        (partial(losses.ChannelAlignment, 3, 7), "align", ("linear",)),
        (PixelWise, "norm", ("sum",)),
    ],
)  # fmt: skip
def test_options_that_are_refused(kind, option, values):
    argument = {"T": "temperature", "align": "style"}.get(option, option)
    for value in values:
        with pytest.raises(CwdError) as error:
            kind(**{argument: value})
        said = f"{option}={value!r} " if option == "ignore_index" else f"{option}={value} "
        assert str(error.value).startswith(said)
        assert re.search(r": (give|use) .*\.$", str(error.value))
