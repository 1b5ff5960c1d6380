"""What a kernel is, and what a route is.

A kernel is one way to solve a class of problems; its parameters say what it lets one choose, and a config is one choice
of all of them. A route is a kernel with a config: the thing that is measured, exported and dispatched. Stock, searched
and replayed routes are the same object on the same path (the idea of tinygrad's ``codegen/opt``, where heuristic and
search emit the same actions).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

from ..errors import UsageError
from ..problem import Problem

Value = Union[int, str]
Config = Mapping[str, Value]
Op = Callable[..., Any]
"""A callable with the signature of the MLX op that it stands for."""


@dataclass(frozen=True)
class Route:
    """A kernel's name and a config, hashable; ``str`` gives ``pad multiple=8 fill=zeros``."""

    kernel: str
    items: tuple[tuple[str, Value], ...] = ()

    @property
    def config(self) -> dict[str, Value]:
        return dict(self.items)

    def __str__(self) -> str:
        return " ".join([self.kernel, *(f"{name}={value}" for name, value in self.items)])

    @classmethod
    def of(cls, kernel: str, config: Config | None = None) -> Route:
        return cls(kernel, tuple((config or {}).items()))

    @classmethod
    def parse(cls, text: str) -> Route:
        """Reads what ``str`` writes; values made of the digits 0 to 9 become integers.

        Raises :class:`UsageError` for a word that is no NAME=VALUE, and for a name that stands there twice. Whether
        there is such a kernel and config, :func:`autotune.kernels.accepts` says.
        """
        kernel, *pairs = text.split() or [""]
        if not kernel:
            raise UsageError("empty route", "a route is KERNEL NAME=VALUE ...")
        items = []
        for pair in pairs:
            name, equals, value = pair.partition("=")
            if not equals or not value:
                raise UsageError(f"route {text!r} has {pair!r}", "a route is KERNEL NAME=VALUE ...")
            items.append((name, int(value) if value.isascii() and value.isdecimal() else value))
        if len(dict(items)) < len(items):
            raise UsageError(f"route {text!r} names a parameter twice", "give each NAME=VALUE once")
        return cls(kernel, tuple(items))


STOCK = Route("stock")


@dataclass(frozen=True)
class Parameter:
    """One thing to choose: the values it can ever take, as a range of integers or a set of words.

    Candidate values to measure are a subset, listed per kernel in ``configs/spaces/``.
    """

    low: int = 0
    high: int = 0
    words: tuple[str, ...] = ()

    def holds(self, value: object) -> bool:
        if self.words:
            return isinstance(value, str) and value in self.words
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high


class Kernel:
    """One way to solve a class of problems. Subclasses set the class attributes and define ``legal`` and ``build``.

    ``parameters`` is ordered: a config lists its values in that order. ``accuracy`` is the largest error, as a multiple
    of the stock op's, with which the kernel may still be used. ``smooth`` says that its time changes little from one M
    to the next, so that a route which is good at two measured M may be used between them. ``backends`` are those of MLX
    that it runs on, and ``offered`` those on which a sweep tries it without being asked; ``nax`` says that it needs the
    GPU's neural accelerators; ``searched`` that its space is too large to be measured whole, and is searched as far as
    a sweep's effort goes. ``side`` is ``vector`` for a matrix-vector kernel, ``matrix`` for a matrix-matrix kernel, and
    empty where that depends on M and on the limit that MLX has compiled in (:mod:`autotune.stock_rules`). ``rounded``
    names operands that the kernel rounds to the problem's dtype before it multiplies (``x``, ``weights``) or
    ``partials``, sums being in float32 and the result rounded once: ``autotune verify`` holds it to that. None promises
    nothing beyond ``accuracy``.
    """

    name: str = ""
    summary: str = ""
    ops: tuple[str, ...] = ()
    parameters: Mapping[str, Parameter] = {}
    accuracy: float = 2.0
    smooth: bool = False
    backends: tuple[str, ...] = ("metal", "cuda", "cpu")
    offered: tuple[str, ...] = ("metal", "cuda", "cpu")
    nax: bool = False
    searched: bool = False
    side: str = ""
    rounded: tuple[str, ...] | None = None

    def accepts(self, problem: Problem, config: Config) -> bool:
        """Whether the config lies in the declared space and is legal for the problem."""
        return (
            self.serves(problem)
            and list(config) == list(self.parameters)
            and all(self.parameters[name].holds(value) for name, value in config.items())
            and self.legal(problem, config)
        )

    def serves(self, problem: Problem) -> bool:
        """Whether the kernel is for such problems at all, whatever its config."""
        return problem.op in self.ops

    def legal(self, problem: Problem, config: Config) -> bool:
        """Whether a config of the declared space can serve the problem. True unless a kernel says otherwise."""
        return True

    def constraints(self, problem: Problem) -> Iterable[tuple[tuple[str, ...], Callable[..., Any]]]:
        """Names of parameters and a predicate on arrays of their values, for spaces that are too large to ask ``legal``
        about each point. They may reject only what ``legal`` rejects, which has the last word; none by default."""
        return ()

    def same(self, problem: Problem, config: Config) -> object:
        """Configs with equal values of this do the same work for the problem, so only one is measured."""
        return tuple(config.items())

    def build(self, problem: Problem, config: Config) -> Op:
        """A callable with the signature of ``problem.op`` that computes it this way.

        It has to be right for any arguments of the problem's family, whatever their M.
        """
        raise NotImplementedError

    def bare(self, problem: Problem, config: Config) -> Op:
        """The same, cheaper to call, but only where nobody transforms it: under ``mx.grad``, ``mx.jvp`` or ``mx.vmap``
        MLX raises an error. What stock ops do needs no such rule."""
        return self.build(problem, config)

    def runs_on(self, backend: str, nax: bool) -> bool:
        """Whether a device of this backend, with usable neural accelerators or without, can run the kernel at all."""
        return backend in self.backends and (nax or not self.nax)

    def probe(self, problem: Problem, config: Config) -> None:
        """Tries a config out where that is needed before its first use. Raises what goes wrong. Stock ops need none."""

    def sources(self) -> Iterable[str]:
        """Modules whose text decides what the kernel computes: a change there makes its measurements stale."""
        return (type(self).__module__,)

    def files(self) -> Iterable[Path]:
        """Files in other languages of which the same is true."""
        return ()
