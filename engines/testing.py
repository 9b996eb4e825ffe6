"""The contract every engine is held to. A plugin's test file needs only this:

    from tunewright.engines.testing import EngineContract

    class TestMine(EngineContract):
        engine = MyEngine

Override `options` for constructor arguments, or `make` to build the engine in another way. An engine is asked only
for what its `capabilities` claim. Runs under pytest; nothing but this package is imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tunewright.engines.errors import SpaceExhausted
from tunewright.engines.parameters import Categorical, Derived, Float, Int
from tunewright.engines.space import Params, Space
from tunewright.engines.types import Engine, Fidelity, Objective, Observation, Predictor, Proposal, Scorer, State

SPACES: Mapping[str, Space] = {
    "mixed": Space(
        {
            "lr": Float(1e-5, 1e-1, log=True),
            "dropout": Float(0.0, 0.5),
            "layers": Int(1, 6),
            "width": Int(4, 512, log=True),
            "keep": Float(0.1, 0.9, step=0.1),
            "opt": Categorical(["sgd", "adam", "rmsprop"]),
        }
    ),
    "conditions at depth": Space(
        {
            "model": Categorical(["linear", "net"]),
            "l2": Float(1e-6, 1.0, log=True, when={"model": "linear"}),
            "layers": Int(1, 3, when={"model": "net"}),
            "opt": Categorical(["sgd", "adam"], when={"model": "net"}),
            "momentum": Float(0.0, 0.99, when={"opt": "sgd"}),
            "nesterov": Categorical([True, False], when="momentum > 0.5"),
            "width": Int(8, 64, step=8, when="layers >= 2"),
        }
    ),
    "single values": Space(
        {
            "x": Float(0.0, 1.0),
            "same": Float(2.5, 2.5),
            "three": Int(3, 3),
            "log": Float(0.1, 0.1, log=True),
            "only": Categorical(["one"]),
        }
    ),
    "constrained": Space(
        {
            "batch": Int(1, 64),
            "accumulate": Int(1, 16),
            "a": Float(0.0, 1.0),
            "b": Float(0.0, 1.0),
            "total": Derived("batch * accumulate"),
        },
        constraints=["total <= 256", "a + b <= 1"],
    ),
}
FINITE = Space({"c": Categorical(["a", "b", "c"]), "i": Int(1, 3), "flag": Categorical([True, False], when={"c": "a"})})

Loss = Callable[[Space, Params], float]


def bowl(space: Space, params: Params) -> float:
    """A loss with one minimum, at 0.3 of every parameter's range; inactive parameters cost nothing."""
    return float(np.nansum((space.encode([params])[0] - 0.3) ** 2))


class EngineContract:
    """Inherit it, and name the class under test."""

    engine: ClassVar[Callable[..., Engine]]
    options: ClassVar[Mapping[str, Any]] = {}
    trials: ClassVar[int] = 30
    """How long most histories are; past the engine's own startup phase."""

    # ---------------------------------------------------------------- building blocks

    def make(
        self,
        space: Space,
        objectives: Sequence[Objective] = (Objective("loss"),),
        seed: int = 7,
        fidelity: Fidelity | None = None,
    ) -> Engine:
        return type(self).engine(space, objectives, seed, fidelity=fidelity, **self.options)

    def _spaces(self) -> Iterator[tuple[str, Space]]:
        for name, space in SPACES.items():
            if not space.is_conditional or self.make(SPACES["mixed"]).capabilities.conditional:
                yield name, space

    def _history(
        self, space: Space, n: int | None = None, *, loss: Loss = bowl, failing: int = 0, own: bool = True
    ) -> list[Observation]:
        """n observations of random configurations, every `failing`-th of them failed."""
        configs = space.sample(np.random.default_rng(11), n or self.trials)
        return [self._seen(space, k, c, loss, bool(failing) and k % failing == 0, own) for k, c in enumerate(configs)]

    def _seen(
        self, space: Space, number: int, params: Params, loss: Loss = bowl, failed: bool = False, own: bool = True
    ) -> Observation:
        if not failed:
            return Observation(number, params, (loss(space, params),), own=own)
        return Observation(number, params, None, State.FAILED, own=own)

    def _check(self, space: Space, proposals: Sequence[Proposal]) -> None:
        """Valid, plain and finite."""
        for proposal in proposals:
            assert not space.problems(proposal.params), f"invalid proposal {proposal.params}: {proposal}"
            for name, value in proposal.params.items():
                assert type(value) in (str, int, float, bool, type(None)), f"{name} is a {type(value)}: {value!r}"
                assert not isinstance(value, float) or math.isfinite(value), f"{name} is {value!r}"
                assert value == space.parameters[name].coerce(value), f"{name} is {value!r}, in another type's spelling"

    @staticmethod
    def _params(proposals: Sequence[Proposal]) -> list[Params]:
        return [dict(p.params) for p in proposals]

    # ---------------------------------------------------------------- asking

    def test_meets_the_protocol(self) -> None:
        assert isinstance(self.make(SPACES["mixed"]), Engine)

    def test_same_answer_however_tells_were_batched(self) -> None:
        for name, space in self._spaces():
            history = self._history(space, failing=7)
            at_once, singly, mixed = self.make(space), self.make(space), self.make(space)
            at_once.tell(history)
            for k, observation in enumerate(history):
                singly.ask(index=k)
                singly.tell([observation])
            mixed.tell(history[:4])
            mixed.tell([])
            mixed.ask(2, index=4)
            mixed.tell(history[4:])
            for index in (self.trials, self.trials + 1, self.trials + 50):
                expected = self._params(at_once.ask(index=index))
                assert self._params(singly.ask(index=index)) == expected, f"told singly, {name}"
                assert self._params(mixed.ask(index=index)) == expected, f"told in two parts, {name}"

    def test_asking_changes_nothing(self) -> None:
        for name, space in self._spaces():
            engine = self.make(space)
            for part in (0, self.trials):
                engine.tell(self._history(space)[:part])
                pending = [Proposal(c) for c in space.sample(np.random.default_rng(2), 2)]
                before = list(pending)
                first = self._params(engine.ask(2, pending, index=part))
                engine.ask(3, index=part + 7)
                if isinstance(engine, Scorer):
                    engine.candidates(8, index=part)
                    engine.score(space.sample(np.random.default_rng(1), 3))
                assert self._params(engine.ask(2, pending, index=part)) == first, f"{name}, after {part} trials"
                assert pending == before, "ask changed its argument"

    def test_valid_and_plain_from_the_first_proposal_on(self) -> None:
        for _, space in self._spaces():
            engine = self.make(space)
            for k in range(self.trials):
                proposals = engine.ask(index=k)
                assert len(proposals) == 1
                self._check(space, proposals)
                engine.tell([self._seen(space, k, dict(proposals[0].params))])

    def test_a_large_history(self) -> None:
        space = SPACES["mixed"]
        engine = self.make(space)
        engine.tell(self._history(space, 300, failing=10))
        self._check(space, engine.ask(2, index=300))

    # ---------------------------------------------------------------- distinct proposals

    def test_a_batch_is_distinct_and_distinct_from_what_runs(self) -> None:
        for name, space in self._spaces():
            for told in (0, self.trials):
                engine = self.make(space)
                engine.tell(self._history(space)[:told])
                running = engine.ask(3, index=told)
                batch = engine.ask(4, running, index=told + 3)
                self._check(space, [*running, *batch])
                keys = {space.key(p.params) for p in [*running, *batch]}
                assert len(keys) == 7, f"repeats in a batch or of pending points, {name} after {told}"

    def test_a_finite_space_to_its_end_and_past_it(self) -> None:
        space = FINITE if self.make(SPACES["mixed"]).capabilities.conditional else Space({"i": Int(1, 9)})
        engine, size = self.make(space), int(space.size())
        for k in range(2 * size):
            try:
                proposals = engine.ask(index=k)
            except SpaceExhausted:
                assert k >= size, f"exhausted after {k} of {size} configurations"
                return
            self._check(space, proposals)
            engine.tell([self._seen(space, k, dict(proposals[0].params))])

    def test_the_last_free_place_of_a_finite_space_is_found(self) -> None:
        space = Space({"i": Int(1, 12)})
        engine = self.make(space)
        engine.tell([self._seen(space, k, {"i": k + 1}) for k in range(10)])
        proposal = engine.ask(1, [Proposal({"i": 11})], index=11)[0]
        assert proposal.params["i"] != 11, "repeats a pending point though there is room"

    def test_the_best_corner_is_tried_once(self) -> None:
        """Many units stand for the lowest values of a logarithmic integer, and the corners of a thin space attract
        draws that are cut off at the ends of ranges."""
        spaces = {
            "wide": Space({"n": Int(1, 10**9, log=True), "m": Int(0, 10**6)}),
            "wider": Space({"n": Int(1, 10**15, log=True), "m": Int(-(10**12), 10**12)}),
            "thin": Space({"a": Float(0, 1), "b": Float(0, 1)}, ["abs(a - b) < 0.001"]),
        }
        for name, space in spaces.items():
            engine, keys = self.make(space), set()
            for k in range(16):
                proposals = engine.ask(index=k)
                self._check(space, proposals)
                params = dict(proposals[0].params)
                keys.add(space.key(params))
                engine.tell([self._seen(space, k, params, lambda space, p: float(space.encode([p]).sum()))])
            assert len(keys) == 16, f"{16 - len(keys)} of 16 proposals are repeats, {name}"

    # ---------------------------------------------------------------- odd histories

    def test_failures_alone(self) -> None:
        for _, space in self._spaces():
            engine = self.make(space)
            engine.tell(self._history(space, 15, failing=1))
            self._check(space, engine.ask(2, index=15))

    def test_equal_and_extreme_values(self) -> None:
        losses: dict[str, Loss] = {
            "equal": lambda space, params: 1.0,
            "huge": lambda space, params: 1e30 * bowl(space, params),
            "tiny": lambda space, params: 1e-30 * bowl(space, params),
            "two-valued": lambda space, params: float(bowl(space, params) > 0.3),
        }
        for _, space in self._spaces():
            for loss in losses.values():
                engine = self.make(space)
                engine.tell(self._history(space, loss=loss))
                self._check(space, engine.ask(2, index=self.trials))

    def test_the_same_configuration_many_times(self) -> None:
        space = SPACES["mixed"]
        engine = self.make(space)
        config = space.sample(np.random.default_rng(3))
        engine.tell([self._seen(space, k, config) for k in range(self.trials)])
        self._check(space, engine.ask(2, index=self.trials))

    def test_observations_of_other_proposers(self) -> None:
        for _, space in self._spaces():
            engine = self.make(space)
            engine.tell(self._history(space, own=False, failing=5))
            self._check(space, engine.ask(2, index=0))

    def test_observations_at_lower_fidelities(self) -> None:
        space = SPACES["mixed"]
        engine = self.make(space, fidelity=Fidelity("epoch", 1, 9))
        states = {1: State.STOPPED, 3: State.STOPPED, 9: State.COMPLETE}
        engine.tell(
            [
                Observation(o.number, o.params, o.values, states[f], f)
                for o, f in zip(self._history(space), [1, 1, 3, 1, 9] * self.trials, strict=False)
            ]
        )
        at_once = Observation(self.trials, space.sample(np.random.default_rng(4)), None, State.FAILED, 0)
        engine.tell([at_once])  # failed before its first step
        self._check(space, engine.ask(2, index=self.trials, fidelity=9))

    def test_maximizing_is_minimizing_the_negated_values(self) -> None:
        for name, space in self._spaces():
            history = self._history(space)
            low, high = self.make(space), self.make(space, (Objective("gain", "maximize"),))
            low.tell(history)
            high.tell([Observation(o.number, o.params, (-o.values[0],)) for o in history if o.values is not None])
            assert self._params(low.ask(3, index=self.trials)) == self._params(high.ask(3, index=self.trials)), name

    def test_several_objectives(self) -> None:
        space, both = SPACES["mixed"], (Objective("loss"), Objective("gain", "maximize"))
        if not self.make(space).capabilities.multi_objective:
            return
        engine = self.make(space, both)
        engine.tell(
            [
                Observation(o.number, o.params, (o.values[0], o.params["width"]))
                for o in self._history(space)
                if o.values
            ]
        )
        self._check(space, engine.ask(2, index=self.trials))

    # ---------------------------------------------------------------- judging

    def test_scores_are_finite_and_repeatable_and_nothing_without_a_model(self) -> None:
        for name, space in self._spaces():
            engine = self.make(space)
            if not isinstance(engine, Scorer):
                return
            configs = space.sample(np.random.default_rng(5), 16)
            assert np.array_equal(engine.score(configs), np.zeros(16)), f"a score before any observation, {name}"
            engine.tell(self._history(space, failing=9))
            scores = engine.score(configs)
            assert scores.shape == (16,)
            assert np.all(np.isfinite(scores)), f"{name}: {scores}"
            assert np.array_equal(engine.score(configs), scores), f"scores differ when asked again, {name}"
            one_by_one = np.concatenate([engine.score([config]) for config in configs])
            assert np.allclose(one_by_one, scores), f"a score depends on the others it is asked with, {name}"
            assert engine.score([]).shape == (0,)

    def test_scores_prefer_the_better_region(self) -> None:
        space = Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})
        engine = self.make(space)
        if isinstance(engine, Scorer):
            engine.tell(self._history(space, 60))
            near, far = engine.score([{"x": 0.3, "y": 0.3}, {"x": 0.95, "y": 0.95}])
            assert near > far

    def test_candidates_are_valid_and_repeatable(self) -> None:
        for name, space in self._spaces():
            engine = self.make(space)
            if not isinstance(engine, Scorer):
                return
            for told in (0, self.trials):
                engine.tell(self._history(space)[:told])
                drawn = engine.candidates(20, index=told)
                assert len(drawn) == 20
                self._check(space, [Proposal(c) for c in drawn])
                assert engine.candidates(20, index=told) == drawn, f"candidates differ when drawn again, {name}"

    def test_predictions_have_a_row_for_each_configuration(self) -> None:
        space = SPACES["mixed"]
        engine = self.make(space)
        if isinstance(engine, Predictor):
            engine.tell(self._history(space))
            prediction = engine.predict(space.sample(np.random.default_rng(6), 5))
            assert prediction.mean.shape == prediction.std.shape == (5, 1)
            assert np.all(np.isfinite(prediction.mean)) and np.all(prediction.std >= 0)
