"""Halton's sequence as an engine, the way somebody else's package would bring it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from tunewright.engines import (
    Capabilities,
    Fidelity,
    FixSpace,
    Objective,
    Observation,
    Proposal,
    Space,
    SpaceExhausted,
)

TRIES = 2_000
STRIDE = 100_003  # prime, so that no base divides it


def primes(n: int) -> list[int]:
    """The first n prime numbers."""
    found: list[int] = []
    candidate = 2
    while len(found) < n:
        if all(candidate % p for p in found):
            found.append(candidate)
        candidate += 1
    return found


def radical_inverse(index: int, base: int) -> float:
    """phi_b(i): the digits of i in base b, mirrored at the point. Halton 1960, Numerische Mathematik 2, eq. 1."""
    value, weight = 0.0, 1.0 / base
    while index:
        index, digit = divmod(index, base)
        value += digit * weight
        weight /= base
    return value


class Halton:
    """Points that fill the space evenly: coordinate d is the radical inverse in the d-th prime, rotated by the seed.

    The rotation modulo 1 is that of Cranley and Patterson 1976, SIAM Journal on Numerical Analysis 13(6). It learns
    nothing from results; it only leaves out configurations that were tried or are running.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(conditional=True, multi_objective=True)

    def __init__(
        self, space: Space, objectives: Sequence[Objective], seed: int, *, fidelity: Fidelity | None = None
    ) -> None:
        self.space = space
        self.bases = primes(len(space.names))
        self.shift = np.random.default_rng(seed).random(len(self.bases))
        self.tried: set[str] = set()

    def ask(
        self, n: int = 1, pending: Sequence[Proposal] = (), *, index: int, fidelity: int | None = None
    ) -> list[Proposal]:
        taken = self.tried | {self.space.key(p.params) for p in pending}
        out: list[Proposal] = []
        for k in range(index, index + n):
            params = self._fresh(k, taken)
            taken.add(self.space.key(params))
            out.append(Proposal(params, fidelity))
        return out

    def _fresh(self, index: int, taken: set[str]) -> dict[str, Any]:
        feasible = False
        # A repeat is replaced from far up the sequence, so that proposal k never depends on how k - 1 was found.
        for place in range(1 + index, 1 + index + TRIES * STRIDE, STRIDE):
            units = (np.array([radical_inverse(place, b) for b in self.bases]) + self.shift) % 1.0
            params = self.space.decode(units[None, :])[0]
            if self.space.feasible(params):
                feasible = True
                if self.space.key(params) not in taken:
                    return params
        if not feasible:
            raise FixSpace("almost no configuration meets the constraints", field="constraints", fix="loosen them")
        raise SpaceExhausted("every configuration was tried", field="engine", value="halton")

    def tell(self, observations: Sequence[Observation]) -> None:
        self.tried |= {self.space.key(o.params) for o in observations}
