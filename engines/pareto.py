"""Pareto dominance."""

from __future__ import annotations

import numpy as np


def pareto_front(losses: np.ndarray) -> list[int]:
    """Indices of the rows of (n, m) losses (lower is better) that no other row dominates, ascending.

    A row dominates another when it is no worse in every column and better in one; equal rows do not dominate each
    other (Deb 2001, "Multi-Objective Optimization using Evolutionary Algorithms", definition 2.5). Rows are visited in
    lexicographic order, in which a row can only be dominated by one before it.
    """
    order = np.lexsort(losses.T[::-1])
    front: list[int] = []
    for i in order:
        kept = losses[front]
        if not np.any(np.all(kept <= losses[i], axis=1) & np.any(kept < losses[i], axis=1)):
            front.append(int(i))
    return sorted(front)
