"""Where a model's own candidates are good: its view of each parameter, for a reader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tunewright.engines.parameters import Categorical
from tunewright.engines.space import Space

BEST = 0.1  # of the candidates, by score
CORE = (0.1, 0.9)  # quantiles between which a parameter's good values are told
NARROW = 0.5  # of the scale: wider is no preference
MOSTLY = 0.6  # of the best candidates: a choice below this is no preference


def favoured(space: Space, configs: Sequence[Mapping[str, Any]], scores: np.ndarray) -> list[dict[str, Any]]:
    """{"name", "low", "high"} or {"name", "values": [(value, share)]} of each parameter in which the best tenth of the
    candidates keeps to a part, in the space's order. scores: (n,), higher is better."""
    known = np.flatnonzero(np.isfinite(scores))
    count = max(5, int(BEST * len(known)))
    if len(known) < 2 * count:
        return []
    best = [configs[i] for i in known[np.argsort(-scores[known], kind="stable")[:count]]]
    units = space.encode(best)
    out: list[dict[str, Any]] = []
    for name, parameter, column in zip(space.names, space.parameters.values(), units.T, strict=True):
        active = column[~np.isnan(column)]
        if len(active) < len(best) / 2:
            continue
        if isinstance(parameter, Categorical):
            shares = Counter(str(u) for u in active.tolist()).most_common(3)
            values = [(parameter.from_unit(float(u)), round(n / len(active), 2)) for u, n in shares]
            if len(parameter.choices) > 1 and values[0][1] >= MOSTLY:
                out.append({"name": name, "values": values})
            continue
        low, high = np.quantile(active, CORE)
        if high - low <= NARROW:
            out.append({"name": name, "low": parameter.from_unit(low), "high": parameter.from_unit(high)})
    return out
