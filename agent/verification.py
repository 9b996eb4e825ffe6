"""What verifying runs say of a trial: its mean and spread over seeds, the gap to the search, and what luck explains.

The best of many noisy results is better on paper than in truth, by selection alone (the optimizer's curse: Smith and
Winkler, Management Science 52, 2006). Runs that had no part in the choice are free of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist, mean, stdev
from typing import TYPE_CHECKING, Any

from tunewright.agent.records import TrialRecord, VerifyingRun
from tunewright.engines.types import Objective, State

if TYPE_CHECKING:
    from tunewright.agent.view import StudyView

SURE = 0.95  # of the cases, that what is called luck covers


@dataclass(frozen=True, slots=True)
class Verification:
    """One round of verifying runs of trial `number`."""

    number: int
    round: int
    data: str | None
    objectives: tuple[Objective, ...]
    runs: tuple[VerifyingRun, ...]

    def values(self, objective: int = 0) -> list[float]:
        """Of the runs that brought a result."""
        return [run.values[objective] for run in self.runs if run.values is not None]

    @property
    def mean(self) -> float | None:
        """Of the first objective; None where every run failed."""
        return mean(self.values()) if self.values() else None

    @property
    def sd(self) -> float | None:
        """The standard deviation of the first objective between seeds; None below two results."""
        return stdev(self.values()) if len(self.values()) > 1 else None

    def __str__(self) -> str:
        found = [_spread(o, self.values(i)) for i, o in enumerate(self.objectives)] if self.values() else ["no result"]
        failed = len(self.runs) - len(self.values())
        trouble = f", {failed} failed" if failed else ""
        return f"{', '.join(found)} over {_runs(len(self.values()))}{trouble}{f' on {self.data}' if self.data else ''}"

    def to_dict(self) -> dict[str, Any]:
        summary = {}
        for i, objective in enumerate(self.objectives):
            values = self.values(i)
            summary[objective.name] = {
                "mean": mean(values) if values else None, "sd": stdev(values) if len(values) > 1 else None
            }  # fmt: skip
        return {
            "trial": self.number, "round": self.round, "data": self.data, "objectives": summary,
            "runs": [{k: v for k, v in asdict(run).items() if k in ("seed", "values", "error")} for run in self.runs],
        }  # fmt: skip


def verifications(runs: Sequence[VerifyingRun], objectives: Sequence[Objective]) -> list[Verification]:
    """The rounds that runs belong to, in order."""
    rounds: dict[tuple[int, int], list[VerifyingRun]] = {}
    for run in runs:
        rounds.setdefault((run.round, run.number), []).append(run)
    return [Verification(number, at, of[0].data, tuple(objectives), tuple(of)) for (at, number), of in rounds.items()]


@dataclass(frozen=True, slots=True)
class Evidence:
    """A verification beside what the search knew. The runner-up is the best of the other configurations, `rival` its
    latest verification on the same data."""

    verification: Verification
    seen: tuple[float, ...]  # the trial's own result, which the search chose by
    compared: int  # trials that it was chosen from: completed, stopped and paused ones
    runner_up: TrialRecord | None = None
    rival: Verification | None = None
    inherited: bool = False  # whether its weights came from another trial's

    @property
    def mean(self) -> float | None:
        return self.verification.mean

    @property
    def sd(self) -> float | None:
        return self.verification.sd

    @property
    def gap(self) -> float | None:
        """How much worse than in the search, in the metric's unit whatever its direction; below zero: better."""
        objective = self.verification.objectives[0]
        return None if self.mean is None else objective.loss(self.mean) - objective.loss(self.seen[0])

    @property
    def won(self) -> bool:
        """Whether the search named it the best, and so chose it for its luck too."""
        if self.runner_up is None or self.runner_up.values is None:
            return True
        objective = self.verification.objectives[0]
        return objective.loss(self.seen[0]) <= objective.loss(self.runner_up.values[0])

    @property
    def luck(self) -> float | None:
        """The gap that seeds alone stay within in 95 of 100 cases, had nothing been selected."""
        n = len(self.verification.values())
        return None if self.sd is None else _quantile(n - 1) * self.sd * math.sqrt(1 + 1 / n)

    @property
    def optimism(self) -> float | None:
        """What selection alone adds at most, on average: the best of `compared` results that differ by luck alone."""
        if self.sd is None or self.compared < 2:
            return None
        rank = (self.compared - 0.375) / (self.compared + 0.25)  # Blom's, for the mean of the largest of n normals
        return self.sd * NormalDist().inv_cdf(rank)

    @property
    def runner_up_in_noise(self) -> bool | None:
        """Whether the runner-up may be as good; None without one or without a spread."""
        if (found := self._ahead()) is None:
            return None
        lead, margin = found
        return abs(lead) <= margin

    def _ahead(self) -> tuple[float, float] | None:
        """(how far the trial is ahead of its runner-up, what luck makes of that in 95 of 100 cases)."""
        if self.sd is None or self.runner_up is None or self.runner_up.values is None:
            return None
        objective, ours = self.verification.objectives[0], self.verification.values()
        if self.rival is None:
            lead = objective.loss(self.runner_up.values[0]) - objective.loss(self.seen[0])
            return lead, _quantile(len(ours) - 1) * self.sd * math.sqrt(2)
        theirs = self.rival.values()
        parts = [stdev(values) ** 2 / len(values) for values in (ours, theirs)]
        lead = objective.loss(mean(theirs)) - objective.loss(mean(ours))
        if sum(parts) == 0:
            return lead, 0.0
        # Welch's degrees of freedom: the two spreads need not be equal.
        free = sum(parts) ** 2 / sum(p**2 / (len(v) - 1) for p, v in zip(parts, (ours, theirs), strict=True))
        return lead, _quantile(free) * math.sqrt(sum(parts))

    def sentences(self) -> list[str]:
        """What to think of it, in words."""
        told = [f"Trial {self.verification.number}, run again: {self.verification}."]
        if errors := [run.error for run in self.verification.runs if run.error]:
            told.append(f"{len(errors)} of {_runs(len(self.verification.runs))} failed, the first with: {errors[0]}")
        if self.inherited:
            told.append("Its weights had come from another trial; each run trained its last values from the start.")
        if self.mean is None:
            return told
        if len(self.verification.objectives) > 1:
            seen = zip(self.verification.objectives, self.seen, strict=True)
            told.append(f"The search saw {', '.join(f'{o.name} {v:.6g}' for o, v in seen)}.")
        else:
            selection = [self._selection_words()] if self.won else []
            told += [self._gap_words(), *selection, *self._rival_words()]
        if self.verification.data is None:
            told.append(
                "Nothing says that these runs measured on data that the search had not seen; if they did not, the mean"
                " is still flattered by all that was tuned to that data."
            )
        elif len(self.verification.objectives) == 1:
            told.append(f"The gap also holds what {self.verification.data} makes harder or easier.")
        return told

    def _gap_words(self) -> str:
        assert self.gap is not None, "there is a mean"
        text = f"The search saw {self.seen[0]:.6g}: "
        text += "the same" if self.gap == 0 else f"{abs(self.gap):.3g} {'better' if self.gap > 0 else 'worse'}"
        if self.luck is None:
            return f"{text}; one result tells nothing of luck."
        if self.sd == 0:
            return (
                f"{text}; every run gave the same value: the training is deterministic, or it does not use the seed "
                "that it is given (trial.seed, TUNEWRIGHT_SEED, {seed} in a command), and then luck was not tested."
            )
        more = "more than" if abs(self.gap) > self.luck else "no more than"
        return f"{text}, {more} seeds alone explain ({self.luck:.3g} in 95 of 100 cases)."

    def _selection_words(self) -> str:
        if self.compared < 2:
            return "No other trial had a result, so nothing was selected."
        chosen = f"It was chosen among {self.compared} trials"
        if self.sd == 0:
            return f"{chosen}; if the training is deterministic, none of them won by luck."
        text = f"{chosen}, and the best of many noisy results looks better than it is"
        if self.optimism is None:
            return f"{text}, by an amount that one result cannot tell."
        return (
            f"{text}: by about {self.optimism:.3g} if all were equal and only luck apart, by less if they were not."
            " Quote the mean of these runs, not the value of the search."
        )

    def _rival_words(self) -> list[str]:
        if (found := self._ahead()) is None or self.runner_up is None or self.runner_up.values is None:
            return []
        lead, margin = found
        number, where = self.runner_up.number, "behind" if lead >= 0 else "ahead"
        if self.rival is not None:
            better = self.verification.number if lead > 0 else number
            judged = (
                "no difference that these runs can tell from luck"
                if abs(lead) <= margin
                else f"more than luck, so trial {better} is the better one"
            )
            return [
                f"Trial {number}, verified too ({self.rival}), is {abs(lead):.3g} {where} on average: {judged}"
                f" ({margin:.3g} in 95 of 100 cases)."
            ]
        name = "runner-up" if self.won else "best"
        text = f"The {name}, trial {number} with {self.runner_up.values[0]:.6g}, was {abs(lead):.3g} {where}: "
        differ = f"two runs of one configuration differ by up to {margin:.3g} in 95 of 100 cases"
        if abs(lead) <= margin:
            return [
                f"{text}inside the noise, {differ}. Verify it too (--trial {number}) before either is called better."
            ]
        return [f"{text}more than noise, {differ}." if margin else text.removesuffix(": ") + "."]

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.verification.to_dict(), "seen": list(self.seen), "gap": self.gap, "luck": self.luck,
            "compared": self.compared, "optimism": self.optimism,
            "runner_up": self.runner_up.number if self.runner_up else None,
            "runner_up_in_noise": self.runner_up_in_noise, "words": self.sentences(),
        }  # fmt: skip

    def __str__(self) -> str:
        return "\n".join(self.sentences())


def evidence(view: StudyView, verification: Verification) -> Evidence:
    """The verification beside the study's trials as they are now."""
    trial = view.store.trial(view.record.id, verification.number)
    assert trial.values is not None, "only trials with a result are verified"
    inherited = trial.resume_from not in (None, trial.number)
    counts = view.store.count(view.record.id)
    compared = sum(counts.get(state, 0) for state in (State.COMPLETE, State.STOPPED, State.PAUSED))
    if len(view.objectives) > 1:
        return Evidence(verification, trial.values, compared, inherited=inherited)
    complete = view.store.trials(view.record.id, states=(State.COMPLETE,))
    key = view.space.key(view.space.free(trial.params))
    others = [t for t in complete if t.values and view.space.key(view.space.free(t.params)) != key]
    ranked = sorted(others, key=lambda t: (view.objectives[0].loss(t.values[0]) if t.values else 0.0, t.number))
    runner_up = ranked[0] if ranked else None
    same = [
        other
        for other in view.verifications()
        if runner_up and other.number == runner_up.number and other.data == verification.data and other.sd is not None
    ]
    return Evidence(verification, trial.values, compared, runner_up, same[-1] if same else None, inherited)


def _spread(objective: Objective, values: Sequence[float]) -> str:
    return f"{objective.name} {mean(values):.6g}" + (f" ± {stdev(values):.3g}" if len(values) > 1 else "")


def _runs(n: int) -> str:
    return f"{n} run" + ("" if n == 1 else "s")


def _quantile(free: float) -> float:
    """Of Student's t, two-sided."""
    from scipy.special import stdtrit

    return float(stdtrit(free, (1 + SURE) / 2))
