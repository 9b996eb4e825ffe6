"""Configurations as rows: unit positions for the search, features for the kernel.

A *row* is (d,) unit positions in the order of `space.names`, NaN where inactive; a *genotype* is a row without NaN.
Categories are handled in an order of their own (by type and text), so the order in which a user lists them changes
nothing, the random draws included. Each category becomes one feature of 0 or CATEGORY, so that two different ones lie
half a range apart in their parameter, as two values of an integer do: were it a whole range, a model of few trials
would hardly dare another category. An inactive parameter sits in the middle of its range, at equal distance from all
its categories: one more inactive value says nothing, and the parent tells the branches apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tunewright.engines.bins import snapped
from tunewright.engines.parameters import Categorical, Parameter
from tunewright.engines.space import Space

MAX_GRID = 4096
CATEGORY = 0.125**0.5


class Encoding:
    """`space`: the same space with its categories in the inner order; `with_fidelity` adds one feature in [0, 1]."""

    def __init__(self, space: Space, with_fidelity: bool = False):
        data = space.to_dict()
        for entry in data["parameters"].values():
            if entry["type"] == "categorical":
                entry["choices"] = sorted(entry["choices"], key=lambda c: (type(c).__name__, repr(c)))
        self.space = Space.from_dict(data)
        self._parameters = parameters = list(self.space.parameters.values())
        self.categorical = np.array([isinstance(p, Categorical) for p in parameters])
        self._grids = [_grid(p) for p in parameters]
        self._cuts = [None if g is None else (g[1:] + g[:-1]) / 2 for g in self._grids]
        self.counts = np.array([p.count for p in parameters], dtype=float)
        self._parents = self._parent_columns()
        self.with_fidelity = with_fidelity
        self.width = len(parameters)
        widths = [int(p.count) if isinstance(p, Categorical) else 1 for p in parameters] + [1] * with_fidelity
        self.groups = np.repeat(np.arange(len(widths)), widths)
        self._first = np.concatenate([[0], np.cumsum(widths)]).astype(int)
        numeric = np.flatnonzero(~self.categorical)
        self.numeric, self.numeric_features = numeric, self._first[numeric]

    def _parent_columns(self) -> np.ndarray:
        space, read = self.space, set()
        todo = [n for child in space.names for n in space.condition_names(child)]
        while todo:
            name = todo.pop()
            if name in space.derived:
                todo += space.derived[name].names
            else:
                read.add(name)
        return np.array([i for i, n in enumerate(space.names) if n in read], dtype=int)

    def snap(self, genotypes: np.ndarray) -> np.ndarray:
        """(m, d) genotypes moved to the nearest value that exists, in [0, 1]."""
        out = np.clip(genotypes, 0.0, 1.0)
        for column, (grid, cuts) in enumerate(zip(self._grids, self._cuts, strict=True)):
            if grid is not None and cuts is not None:
                out[:, column] = grid[np.searchsorted(cuts, out[:, column])]
            elif math.isfinite(self.counts[column]):
                out[:, column] = snapped(self._parameters[column], out[:, column])
        return out

    def mask(self, snapped: np.ndarray) -> np.ndarray:
        """Rows (m, d) of snapped genotypes: NaN where a condition switches the parameter off."""
        if not len(self._parents) or not len(snapped):
            return snapped
        kinds, which = np.unique(snapped[:, self._parents], axis=0, return_inverse=True)
        probe = np.full((len(kinds), self.width), 0.5)
        probe[:, self._parents] = kinds
        active = np.array([[name in config for name in self.space.names] for config in self.space.decode(probe)])
        return np.where(active[which.reshape(-1)], snapped, np.nan)

    def features(self, rows: np.ndarray, fidelity: np.ndarray | float = 1.0) -> np.ndarray:
        """(m, p) of rows (m, d); `fidelity` in [0, 1] fills the last feature where there is one."""
        out = np.empty((len(rows), len(self.groups)))
        for column, grid in enumerate(self._grids):
            first, position = self._first[column], rows[:, column]
            if self.categorical[column] and grid is not None:
                hit = np.abs(position[:, None] - grid) < 0.5 / len(grid)
                shares = np.where(np.isnan(position)[:, None], 1.0 / len(grid), hit)
                out[:, first : first + len(grid)] = shares * CATEGORY
            else:
                out[:, first] = np.where(np.isnan(position), 0.5, position)
        if self.with_fidelity:
            out[:, -1] = fidelity
        return out

    def middle(self, rng: np.random.Generator) -> np.ndarray:
        """(1, d): the default configuration, else the middle of every number and a random choice of every category."""
        if (default := self.space.default()) is not None:
            return self.encode([default])
        genotype = np.where(self.categorical, rng.random(self.width), 0.5)
        return self.mask(self.snap(genotype[None]))

    def encode(self, configs: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """(m, d) rows; derived values are ignored."""
        return self.space.encode(configs)

    def decode(self, row: np.ndarray) -> dict[str, Any]:
        return self.space.decode(row[None])[0]

    def feasible(self, rows: np.ndarray) -> np.ndarray:
        """(m,) whether each row meets the space's constraints."""
        if not self.space.constraints:
            return np.ones(len(rows), dtype=bool)
        return np.array([self.space.feasible(config) for config in self.space.decode(rows)], dtype=bool)

    def neighbours(self, genotype: np.ndarray, reach: int = 2) -> np.ndarray:
        """Genotypes that differ in one discrete parameter: each other category, or up to `reach` steps of a number."""
        out = []
        for column, grid in enumerate(self._grids):
            if grid is None or len(grid) < 2:
                continue
            here = int(np.argmin(np.abs(grid - genotype[column])))
            span = len(grid) if self.categorical[column] else reach
            for k in range(max(0, here - span), min(len(grid), here + span + 1)):
                if k != here:
                    other = genotype.copy()
                    other[column] = grid[k]
                    out.append(other)
        return np.array(out).reshape(len(out), self.width)


def _grid(parameter: Parameter) -> np.ndarray | None:
    """Unit positions of a discrete parameter's values; None where there are very many."""
    if isinstance(parameter, Categorical):
        return (np.arange(parameter.count) + 0.5) / parameter.count
    if parameter.count > MAX_GRID:
        return None
    values = parameter.values(MAX_GRID)
    return np.array([parameter.to_unit(value) for value in values])  # type: ignore[arg-type]
