"""A kernel that is right or wrong in one way, as its config says: what a verification must tell apart."""

from __future__ import annotations

import os

import mlx.core as mx

from autotune.kernels.base import Kernel, Parameter

STEP = 8
"""What the tiles of these kernels pad K to."""


def right(a, b):
    """Sums in float32, the result rounded once."""
    return mx.matmul(a.astype(mx.float32), b.astype(mx.float32)).astype(a.dtype)


def forgets_row(a, b):
    """Leaves the last of an odd number of rows unwritten."""
    out = right(a, b)
    m = a.shape[-2]
    return mx.where((mx.arange(m) < m - m % 2)[:, None], out, 0) if m > 1 else out


def leaks_padding(a, b):
    """Multiplies a padded K with whatever lies there, instead of zeros on both sides."""
    extra = -a.shape[-1] % STEP
    if not extra:
        return right(a, b)
    beside = mx.full((*a.shape[:-1], extra), float("nan"), a.dtype)
    below = mx.zeros((*b.shape[:-2], extra, b.shape[-1]), b.dtype)
    return right(mx.concatenate([a, beside], axis=-1), mx.concatenate([b, below], axis=-2))


def rounds_partials(a, b):
    """Keeps the sums of both halves of K in the dtype: off by a rounding."""
    half = a.shape[-1] // 2
    return right(a[..., :half], b[..., :half, :]) + right(a[..., half:], b[..., half:, :]) if half else right(a, b)


def spreads_specials(a, b):
    """Lets a NaN of one row reach the next."""
    out = right(a, b)
    return out + 0 * mx.roll(out, 1, axis=-2) if a.shape[-2] > 1 else out


def wrong_shape(a, b):
    return right(a, b)[..., :-1]


def raises(a, b):
    raise ValueError("this kernel does not compile")


def crashes(a, b):
    os._exit(3)


HOW = {
    each.__name__: each
    for each in (
        right,
        forgets_row,
        leaks_padding,
        rounds_partials,
        spreads_specials,
        wrong_shape,
        raises,
        crashes,
    )
}


class Ours(Kernel):
    """Promises float32 sums and one rounding, and keeps that if ``how`` is ``right``."""

    name = "ours"
    ops = ("matmul",)
    rounded: tuple[str, ...] = ()
    parameters = {"how": Parameter(words=tuple(HOW)), "size": Parameter(1, 8)}

    def legal(self, problem, config):
        return problem.batch == 1

    def build(self, problem, config):
        def matmul(a, b, /, *, stream=None):
            return HOW[config["how"]](a, b)

        return matmul
