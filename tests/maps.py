"""Maps to compare, and what several tests of losses do with them."""

import math

import torch


def maps(shape=(2, 3, 4, 5), dtype=torch.float64, seed=0, teacher_channels=None):
    generator = torch.Generator().manual_seed(seed)
    other = (shape[0], teacher_channels or shape[1], *shape[2:])
    student = torch.randn(shape, generator=generator, dtype=torch.float64)
    teacher = 2 * torch.randn(other, generator=generator, dtype=torch.float64)
    return student.to(dtype).requires_grad_(), teacher.to(dtype).requires_grad_()


def softmax(values, tau=1.0):
    """Softmax of a list of numbers, in plain Python."""
    p = [math.exp(v / tau) for v in values]
    return [v / sum(p) for v in p]


def channels(x):
    """All channels of [B, C, H, W], each a list over its positions."""
    return x.detach().flatten(0, 1).flatten(1).tolist()


def positions(x):
    """All positions of [B, C, H, W], each a list over its channels."""
    return x.detach().movedim(1, -1).flatten(0, 2).tolist()


def features(x):
    """The features of [B, C, H, W] as a list for each image of {(row, column): [C numbers]}."""
    height, width = x.shape[2:]
    return [
        {(i, j): image[:, i, j].tolist() for i in range(height) for j in range(width)}
        for image in x.detach()
    ]


def length(v):
    return math.sqrt(sum(a * a for a in v))


def cosine(u, v):
    return sum(a * b for a, b in zip(u, v, strict=True)) / (length(u) * length(v))


def mean_squares(u, v):
    return sum((a - b) ** 2 for a, b in zip(u, v, strict=True)) / len(u)


def gradient(value, student):
    return torch.autograd.grad(value, student)[0]


def agree(ours, published, student, **tolerance):
    """Two losses have the same value, and the same gradient for the student's map."""
    torch.testing.assert_close(ours, published, **tolerance)
    torch.testing.assert_close(gradient(ours, student), gradient(published, student), **tolerance)
