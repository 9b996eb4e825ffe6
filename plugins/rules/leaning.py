"""Which way the results lean: whether more or less of a parameter went with better ranks.

A parameter is seen on its own usual scale, and what is coupled to others as it would be at the best trial's values of
these: the step of SGD per example and without momentum's share, not the bare learning rate. A batch halved at the same
learning rate then counts as a larger step, and halved together with it as none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tunewright.engines.parameters import Categorical
from tunewright.engines.space import Params, Space
from tunewright.plugins.rules.book import Coupling
from tunewright.plugins.rules.fitting import couplings, factor, read
from tunewright.plugins.rules.matching import Detection, Known
from tunewright.plugins.rules.past import Past

FEWEST = 2
DOUBTED = 2.0  # trials' worth of doubt in a trend: that of two trials counts a half
SAME = 1e-6


class Leaning:
    """The trends of a study, seen from its best trial."""

    def __init__(self, space: Space, found: Detection, past: Past):
        self._space, self._found = space, found
        self._best: Params = past.best.params if past.best else {}
        both = {(c.leader, c.follower) for c in found.family.couplings}
        # Where each follows the other, a step trades them, and either has a trend of its own.
        self._coupled = [c for c in couplings(found, self._best) if (c.follower, c.leader) not in both]
        self.trends = self._trends(past) if len(past.finished) >= FEWEST else {}

    def of(self, config: Params) -> float:
        """The mean trend along what differs from the best trial, in [-1, 1]; 0 where nothing is known."""
        leans = []
        for name, trend in self.trends.items():
            if name in config and name in self._best:
                change = self._place(name, config) - self._place(name, self._best)
                if abs(change) > SAME:
                    leans.append(math.copysign(trend, trend * change))
        return sum(leans) / len(leans) if leans else 0.0

    def _trends(self, past: Past) -> dict[str, float]:
        """By number parameter: correlation of a higher value with a better rank, less the fewer trials there are."""
        trends = {}
        quality = -np.arange(len(past.finished), dtype=float)
        for name, parameter in self._space.parameters.items():
            rows = [i for i, trial in enumerate(past.finished) if name in trial.params]
            if isinstance(parameter, Categorical) or len(rows) < FEWEST:
                continue
            places = np.array([self._place(name, past.finished[i].params) for i in rows])
            if np.ptp(places) > SAME:
                sure = len(rows) / (len(rows) + DOUBTED)
                trends[name] = sure * float(np.corrcoef(places, quality[rows])[0, 1])
        return trends

    def _place(self, name: str, config: Mapping[str, Any]) -> float:
        known, value = self._found.known.get(name), config[name]
        number = read(known, value) if known is not None else None
        if known is None or number is None or number <= 0 or not known.entry.log:
            return self._space.parameters[name].to_unit(value)
        for coupling in self._coupled:
            if coupling.follower == known.entry.key and (leader := self._leader(coupling, config)) is not None:
                number *= factor(coupling, read(leader, config[leader.name]), read(leader, self._best[leader.name]))
        return math.log(number)

    def _leader(self, coupling: Coupling, config: Mapping[str, Any]) -> Known | None:
        led = self._found.of(coupling.leader)
        return next((k for k in led if k.name in config and k.name in self._best), None)
