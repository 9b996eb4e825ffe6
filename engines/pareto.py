"""Pareto dominance, fronts and crowding."""

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


def non_dominated_fronts(losses: np.ndarray) -> list[np.ndarray]:
    """Indices of the rows of (n, m) losses by front: the Pareto front, that of the rest without it, and so on.

    The fast non-dominated sort (Deb et al. 2002, section III-A): for each row, whom it dominates and by how many it
    is dominated; a front is taken away by counting down. O(m n^2).
    """
    dominates = np.all(losses[:, None] <= losses, axis=2) & np.any(losses[:, None] < losses, axis=2)
    by = dominates.sum(axis=0)
    left = np.ones(len(losses), dtype=bool)
    fronts = []
    while left.any():
        front = np.flatnonzero(left & (by == 0))
        fronts.append(front)
        left[front] = False
        by = by - dominates[front].sum(axis=0)
    return fronts


def crowding_distances(losses: np.ndarray) -> np.ndarray:
    """(n,) how alone each row of a front, (n, m) losses, is: infinity at its ends (Deb et al. 2002, section III-B)."""
    total = np.zeros(len(losses))
    for column in losses.T:
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        gaps = np.full(len(order), np.inf)
        spread = ordered[-1] - ordered[0]
        gaps[1:-1] = (ordered[2:] - ordered[:-2]) / spread if spread > 0 else 0.0
        total[order] += gaps
    return total
