"""What came after the paper: check values, the formulas written out, blocks, banks."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from maps import agree, cosine, features, gradient, maps, positions, softmax
from torch import nn

from cwd.losses import (
    BoundaryPrivileged,
    ChannelTransformation,
    ChannelWise,
    ClassRelations,
    CrossImageRelations,
    DenseContrast,
    IntraClassVariation,
    MaskedGeneration,
    PixelWise,
    Standardised,
    cirkd,
)
from cwd.losses.cirkd import Bank, divergence, ranks
from cwd.losses.pairwise import unit
from cwd.system.errors import CwdError


def grid(*shape):
    """Every index of a shape, an axis each, in float64."""
    return torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in shape), indexing="ij")


def waves(shape=(2, 3, 4, 4), channels=None):
    """Two maps that anybody can write down; the student's may have other channels."""
    b, c, h, w = grid(shape[0], channels or shape[1], *shape[2:])
    student = 2 * torch.sin(1 + b + 2 * c + 3 * h + 5 * w)
    b, c, h, w = grid(*shape)
    return student.requires_grad_(), 2 * torch.cos(1 + 2 * b + 3 * c + h + 2 * w)


def close(value, expected):
    assert value.item() == pytest.approx(expected, abs=1.1e-6)


# --- the values of the published functions on these maps (BPKD: of one of its ports)


def test_check_values_of_losses_without_weights():
    close(PixelWise()(*waves()), 1.275671)
    close(ChannelWise(1)(*waves()), 1.381936)
    close(ChannelWise(4)(*waves()), 1.972716)
    close(ClassRelations()(*waves()), 1.022441 + 0.949158)
    close(Standardised(2)(*waves()), 0.687203)


def test_check_value_of_the_generation():
    loss = MaskedGeneration(2, 3, positions=16).double()
    block = loss.generator
    with torch.no_grad():
        o, i = grid(3, 2)
        block.align.weight.copy_(0.1 * torch.sin(o + 2 * i)[:, :, None, None])
        o, i, u, v = grid(3, 3, 3, 3)
        for k, conv in ((1, block.first), (2, block.second)):
            conv.weight.copy_(0.1 * torch.sin(k + o + 2 * i + 3 * u + 5 * v))
        for conv in (block.align, block.first, block.second):
            conv.bias.copy_(0.1 * torch.arange(3.0))
    b, _, h, w = grid(2, 1, 4, 4)
    block.mask = Fixed((b + h + 2 * w) % 4 == 0)
    close(loss(*waves(channels=2)), 99.483108)


class Fixed(nn.Module):
    """A mask in the place of a random one."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def forward(self, ones):
        return self.seen.to(ones)


def test_check_values_of_relations():
    s, t = waves((2, 3, 2, 3), channels=2)
    loss = CrossImageRelations(2, 3, 4, pixel=0, region=0)
    close(loss.double()(s, t, torch.zeros(2, 2, 3, dtype=torch.long)), 8.281174)


def test_check_values_of_the_memory():
    s, t = waves()
    (k, n, c), (u, v, w) = grid(2, 4, 3), grid(2, 3, 3)
    banks = (1 + k + 2 * n + 3 * c).sin(), (1 + u + 2 * v + 3 * w).cos()
    keys = [F.normalize(bank, dim=2).flatten(0, 1).T for bank in banks]
    rows = [unit(x).transpose(0, 1).flatten(1) for x in (s, t)]
    known = torch.ones(2, 4, 4, dtype=torch.bool)
    known[0, 0, 0] = known[1, 2, 3] = False
    rows = [x[:, known.flatten()] for x in rows]
    for bank, expected in zip(keys, (6.492792, 7.264516), strict=True):
        close(divergence(*rows, bank, bank) / known.sum(), expected)


def test_check_values_of_the_contrast():
    s, t = waves((2, 4, 8, 8))
    for tau, expected in ((0.07, 16.907344), (1, 3.483368)):
        loss = DenseContrast(4, 4, temperature=tau, pool=2, patch=2, groups=2)
        close(loss.contrast(s, t), expected)


def test_check_values_of_boundaries():
    h, w = torch.arange(8)[:, None], torch.arange(8)
    target = torch.stack([(b + h + w) // 6 for b in range(2)])
    close(BoundaryPrivileged(1, edge=1, body=0, window=3)(*waves(), target), 3.332047)
    close(BoundaryPrivileged(1, edge=0, body=1, window=3)(*waves(), target), 0.988275)


# --- the formulas, position by position


def correlation(x, y):
    """Pearson's r of two lists."""
    x, y = ([a - sum(v) / len(v) for a in v] for v in (x, y))
    lengths = math.sqrt(sum(a * a for a in x)) * math.sqrt(sum(a * a for a in y))
    return sum(a * b for a, b in zip(x, y, strict=True)) / lengths


@pytest.mark.parametrize(("batch", "images", "together"), [(4, 2, 2), (3, 2, 1), (4, 4, 4)])
def test_correlations_by_hand(batch, images, together):
    student, teacher = maps((batch, 3, 2, 4))
    p, q = ([softmax(v) for v in positions(x)] for x in (student, teacher))
    between = sum(map(correlation, p, q)) / len(p)
    within, size = [], together * 8  # positions of the images that are looked at together
    for start in range(0, len(p), size):
        columns = (list(zip(*x[start : start + size], strict=True)) for x in (p, q))
        within += map(correlation, *columns)
    value = ClassRelations(images)(student, teacher).item()
    assert value == pytest.approx(2 - between - sum(within) / len(within), rel=1e-11)


@pytest.mark.parametrize("tau", [1.0, 2.0])
def test_standardised_scores_by_hand(tau):
    student, teacher = maps()

    def softened(v):
        mean = sum(v) / len(v)
        sd = math.sqrt(sum((a - mean) ** 2 for a in v) / (len(v) - 1))
        return softmax([(a - mean) / (1e-7 + sd) for a in v], tau)

    pairs = [[softened(v) for v in positions(x)] for x in (student, teacher)]
    total = sum(
        b * math.log(b / a) for q, p in zip(*pairs, strict=True) for a, b in zip(q, p, strict=True)
    )
    value = Standardised(tau)(student, teacher).item()
    assert value == pytest.approx(tau**2 * total / len(pairs[0]), rel=1e-11)
    # neither the size of the scores nor a constant is looked at
    close(Standardised(tau)(3 * student + 5, teacher), value)


def test_relations_by_hand():
    """Every ordered pair of a group's images, every position's softmax over the other's."""
    student, teacher = maps((4, 3, 2, 2), teacher_channels=5)
    total = 0.0
    for group in ((0, 1), (2, 3)):
        for a in group:
            for b in group:
                r_s, r_t = (
                    [relation(x[a][i], x[b].values()) for i in x[a]]
                    for x in (features(student), features(teacher))
                )
                pairs = zip(r_s, r_t, strict=True)
                total += sum(
                    q * math.log(q / p) for s, t in pairs for p, q in zip(s, t, strict=True)
                )
    loss = CrossImageRelations(3, 5, 4, pixel=0, region=0, batch=0.5).double()
    value = loss(student, teacher, torch.zeros(4, 2, 2, dtype=torch.long)).item()
    assert value == pytest.approx(0.5 * total / (8 * 4), rel=1e-11)


def relation(x, keys):
    """Softmax of cosines over 0.1, of one vector with some."""
    return softmax([cosine(x, k) for k in keys], 0.1)


def test_the_memorys_relations_by_hand():
    student, teacher = maps((2, 3, 2, 3), teacher_channels=4)
    labels = torch.tensor([[[0, 1, 1], [255, 0, 2]], [[1, 1, 255], [0, 2, 1]]])
    torch.manual_seed(0)
    # banks of 4 and 3 of which all are drawn, whatever their order
    loss = CrossImageRelations(3, 4, 3, batch=0, pixel=0.3, region=0.7, pixels=4, regions=3)
    loss.double().eval()
    value = loss(student, teacher, labels).item()
    z = positions(loss.transformed(student))
    expected = 0.0
    for weight, bank in ((0.3, loss.pixels), (0.7, loss.regions)):
        keys = bank.vectors.flatten(0, 1).tolist()
        rows = zip(z, positions(teacher), labels.flatten().tolist(), strict=True)
        known = [(relation(a, keys), relation(b, keys)) for a, b, label in rows if label < 255]
        each = [sum(q * math.log(q / p) for p, q in zip(*pair, strict=True)) for pair in known]
        expected += weight * sum(each) / 10
    assert value == pytest.approx(expected, rel=1e-7)  # the banks are of length 1 in float32


def test_the_contrast_by_hand():
    g, t = maps((1, 4, 5, 4))
    loss = DenseContrast(4, 4, temperature=0.5, pool=1, patch=2, groups=2)
    a, b = (features(x)[0] for x in (g, t))
    total = 0.0
    for i, j in a:
        if i == 4:
            continue  # half of a patch
        patch = [(r, c) for r, c in a if r < 4 and (r // 2, c // 2) == (i // 2, j // 2)]
        for m in (slice(0, 2), slice(2, 4)):
            own = -sum(abs(x - y) for x, y in zip(a[i, j][m], b[i, j][m], strict=True)) / 0.5
            other = slice(2 - m.start, 4 - m.start)
            rest = [
                -sum(abs(x - y) for x, y in zip(a[i, j][m], b[k][other], strict=True)) / 0.5
                for k in patch
            ]
            total -= own - math.log(sum(map(math.exp, [own, *rest])))
    assert loss.contrast(g, t).item() == pytest.approx(total / 16, rel=1e-11)


def test_boundaries_by_hand():
    student, teacher = maps((2, 3, 3, 4))
    target = torch.arange(2 * 6 * 8).view(2, 6, 8).div(5, rounding_mode="floor") % 3
    target[0, :2, :3] = 255
    edges, tau = 0.0, 2.0
    masks = torch.zeros_like(student)
    for b in range(2):
        for c in range(3):
            for h in range(6):
                for w in range(8):
                    near = target[b, max(0, h - 1) : h + 2, max(0, w - 1) : w + 2] == c
                    masks[b, c, h // 2, w // 2] += (near.any() and not near.all()) / 4
        for c in range(3):
            at = [(h, w) for h in range(3) for w in range(4) if masks[b, c, h, w] > 0]
            for h, w in at:
                m = masks[b, :, h, w]
                q, p = (softmax((x[b, :, h, w] * m).tolist(), tau) for x in (student, teacher))
                phi = tau**2 * sum(u * math.log(u / v) for u, v in zip(p, q, strict=True))
                edges += 2 / len(at) * phi * m[c].item() / 2
    body = ChannelWise(tau)(student * (1 - masks), teacher * (1 - masks)).item()
    loss = BoundaryPrivileged(tau, edge=3, body=5, window=3)
    assert loss(student, teacher, target).item() == pytest.approx(3 * edges + 5 * body, rel=1e-11)


# --- those that learn


LEARNT = {
    "MGD": lambda: MaskedGeneration(3, 4),
    "AFDCD": lambda: DenseContrast(3, 4, fd=0.1, ctr=1, pool=1, patch=2, groups=2),
    "CT": lambda: ChannelTransformation(3, 4),
    "CIRKD": lambda: CrossImageRelations(3, 4, 3, pixels=40, regions=5),
}
LABELS = torch.arange(32).view(2, 4, 4) % 4
LABELS[LABELS == 3] = 255
learnt = pytest.mark.parametrize("name", LEARNT)


@learnt
def test_gradients(name):
    torch.manual_seed(0)
    loss, (student, teacher) = LEARNT[name]().double(), maps((2, 3, 4, 4), teacher_channels=4)

    def value(s):
        torch.manual_seed(1)  # the same mask, the same places of the same banks
        return copy.deepcopy(loss)(s, teacher, LABELS)

    assert torch.autograd.gradcheck(value, (student,))
    loss(student, teacher, LABELS).backward()
    assert teacher.grad is None
    assert all(p.grad.abs().max() > 0 for p in loss.parameters())


@learnt
def test_autocast_and_sizes(name):
    torch.manual_seed(0)
    loss, (student, teacher) = LEARNT[name]().eval(), maps((2, 3, 4, 4), torch.float32, 0, 4)
    torch.manual_seed(1)
    exact = loss(student[..., :2], teacher, LABELS)
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(student[..., :2].bfloat16(), teacher.bfloat16(), LABELS)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(exact.item(), rel=0.05)


def test_a_mask_hides_as_many_positions_as_it_says():
    torch.manual_seed(0)
    block = MaskedGeneration(1, 1, masked=0.75).generator
    block.first = block.second = nn.Identity()
    x = torch.ones(64, 1, 16, 16)
    seen = block(x)
    assert set(seen.unique().tolist()) == {0, 1}
    assert seen.mean().item() == pytest.approx(0.25, abs=0.02)
    assert not block(x).equal(seen)  # drawn anew
    assert block.eval()(x).equal(x)


def test_equal_channels_need_no_alignment():
    same, other = MaskedGeneration(4, 4), MaskedGeneration(3, 4)
    counts = [sum(p.numel() for p in loss.parameters()) for loss in (same, other)]
    convolutions = 2 * (9 * 4 * 4 + 4)
    assert counts == [convolutions, convolutions + 3 * 4 + 4]
    # the published students and teachers: 512 to 2048 channels
    with torch.device("meta"):
        published = MaskedGeneration(512, 2048)
    assert round(sum(p.numel() for p in published.parameters()) / 1e6, 1) == 76.6


@pytest.mark.parametrize("block", [1, 500, 5000, 2**24])
def test_relations_in_blocks_are_those_at_once(block, monkeypatch):
    student, teacher = maps((4, 3, 4, 5), teacher_channels=4)
    target = torch.arange(80).view(4, 4, 5) % 3

    def value():
        torch.manual_seed(0)
        loss = CrossImageRelations(3, 4, 3, pixels=40, regions=5).double()
        return loss(student, teacher, target)

    whole = value()
    monkeypatch.setattr(cirkd, "BLOCK", block)
    agree(value(), whole, student)


def test_ranks():
    assert ranks(torch.tensor([3, 1, 3, 3, 0, 1])).tolist() == [0, 0, 1, 2, 0, 1]


def test_a_bank_replaces_its_oldest():
    torch.manual_seed(0)
    bank = Bank(2, 3, 2)
    before = bank.vectors.clone()
    torch.testing.assert_close(before.norm(dim=2), torch.ones(2, 3))
    numbers = [torch.full((1, 2), float(n)) for n in range(9)]
    bank.add(torch.cat(numbers[:3]), torch.tensor([1, 0, 1]))
    assert bank.vectors[1, :, 0].tolist() == [0, 2, before[1, 2, 0]]
    assert bank.vectors[0, :, 0].tolist() == [1, *before[0, 1:, 0].tolist()]
    bank.add(torch.cat(numbers[3:5]), torch.tensor([1, 1]))
    assert bank.vectors[1, :, 0].tolist() == [4, 2, 3]
    bank.add(torch.cat(numbers[4:8]), torch.tensor([0, 0, 0, 0]))  # more than it holds
    assert sorted(bank.vectors[0, :, 0].tolist()) == [4, 5, 6]
    drawn = bank.draw(4)  # three of each class, all that there are
    assert sorted(map(tuple, drawn.T.tolist())) == sorted(
        map(tuple, bank.vectors.flatten(0, 1).tolist())
    )


def test_banks_are_filled_from_their_own_classes():
    """The published code takes the pixels from an image's first positions, of any class."""
    torch.manual_seed(0)
    teacher = torch.zeros(2, 4, 8, 8)
    target = torch.arange(128).view(2, 8, 8) // 24 % 3
    for k in range(3):
        teacher[:, k][target == k] = 1.0  # so that a vector says of which class it is
    target[1, 4:] = 255
    loss = CrossImageRelations(4, 4, 3, pixels=100, regions=5)
    loss(torch.randn(2, 4, 8, 8), teacher, target)
    counts = torch.stack([(image == k).sum() for image in target for k in range(3)]).view(2, 3)
    assert loss.pixels.next.tolist() == counts.clamp_max(16).sum(dim=0).tolist()
    assert loss.regions.next.tolist() == (counts > 0).sum(dim=0).tolist()
    for bank in (loss.pixels, loss.regions):
        for k, count in enumerate(bank.next.tolist()):
            assert bank.vectors[k, :count].argmax(dim=1).eq(k).all()
            assert bank.vectors[k, :count].amax(dim=1).eq(1).all()


@pytest.mark.parametrize(
    ("loss", "channels", "words"),
    [
        (MaskedGeneration(3, 4), (2, 2), "is for 3 channels: give"),
        (DenseContrast(3, 3), (3, 3), "patch=4 is larger"),
        (ChannelTransformation(3, 4), (5, 4), "is for 3 channels: give"),
        (ChannelTransformation(3, 4), (3, 5), "has 4 channels and the teacher map 5"),
    ],
)
def test_maps_that_are_refused(loss, channels, words):
    student, teacher = maps((1, channels[0], 3, 4), torch.float32, 0, channels[1])
    with pytest.raises(CwdError, match=words):
        loss(student, teacher)


@pytest.mark.parametrize(
    ("loss", "channels", "top"),
    [(IntraClassVariation(), 3, 255), (BoundaryPrivileged(), 3, 2), (LEARNT["CIRKD"](), 4, 2)],
)
def test_labels_are_checked(loss, channels, top):
    student, teacher = maps((2, 3, 4, 4), torch.float32, 0, channels)
    target = torch.arange(32).view(2, 4, 4) % 3
    for odd, words in (
        (None, "give it the target"),
        (target.numpy(), "give it the target"),
        (target[:, :0], "give int64"),
        (target.to(torch.complex64), "give int64"),
        (target[:, None], r"give int64 \[B, H, W\]"),
        (target.float(), r"torch\.float32: give int64"),
        (target[:1], "give int64"),
        (target.masked_fill(target == 0, -1), f"labels from -1 to 2: give classes from 0 to {top}"),
        (target.masked_fill(target == 0, top + 1), f"to {top + 1}: give classes from 0 to {top}"),
        (target.masked_fill(target == 0, 300), "to 300: give classes from 0"),
    ):
        with pytest.raises(CwdError, match=words):
            loss(student, teacher, odd)


@pytest.mark.parametrize("kind", ["zero", "constant", "large"])
@learnt
def test_degenerate_maps_stay_finite(name, kind):
    torch.manual_seed(0)
    loss, (student, teacher) = LEARNT[name](), maps((2, 3, 4, 4), torch.float32, 0, 4)
    change = {"zero": torch.zeros_like, "constant": torch.ones_like, "large": lambda x: 1e3 * x}
    student, teacher = (change[kind](x.detach()) for x in (student, teacher))
    value = loss(student.requires_grad_(), teacher, LABELS)
    assert value.isfinite()
    assert gradient(value, student).isfinite().all()
