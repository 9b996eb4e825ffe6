"""A stored decision in plain words: who got the trial, and why nobody else.

The arbiter's own words and numbers stay beside it, in the details and in JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_ENGINES = {
    "the engine's point covers the space before there is a model": "it covers the space while there is no model yet",
    "the engine's point is where its model expects most": "it is where the engine's model expects most",
    "the engine's point is a random draw beside those of its model": (
        "it is a random draw of the engine's, so that no belief of its model hides a part of the space"
    ),
}
_SILENCES = (
    (r"advice fills at most (\d+%) of the lowest rung",
     r"the advisor was not asked, since it may have at most \1 of the trials that begin on the lowest rung"),
    (r"trust in the advisor is low \(.*\); it may try one trial in (\d+)",
     r"the advisor was not asked, since its trials lost to the engine's; it may try one in \1"),
    (r"trust in the advisor is low \(.*\); too late for it to try a trial in this budget",
     r"the advisor was not asked, since its trials lost to the engine's and the budget nears its end"),
    (r"1 advised trial waits to be held against the engine's own",
     r"the advisor was not asked, since one of its trials waits to be compared with the engine's"),
    (r"(\d+) advised trials wait to be held against the engine's own",
     r"the advisor was not asked, since \1 of its trials wait to be compared with the engine's"),
    (r"the advisor was asked at trial (\d+); at most one call in (\d+) trials",
     r"the advisor was not asked, since it was at trial \1 and is at most once in \2 trials"),
)  # fmt: skip
_SHARE = re.compile(r"advice had (\d+) of (\d+) turns; its share is capped at ([\d.]+)")
_SEED = re.compile(
    r"advised seed (\d+) of (\d+), (?:in place of a draw made without a model|after the (\d+) points given)"
)
_GATE = re.compile(r"advised, and at or above the ([\d.]+)-quantile of the engine's own candidates")
_CHECKS = {
    "gate": "the engine's model expects more of its own candidates",
    "distance": "it is almost one that was tried",
    "repeat": "it was tried before",
    "failure region": "it lies where trials fail",
    "schema": "it does not fit the space",
}


def decided(decision: Mapping[str, Any], reason: str) -> str:
    """One sentence; the reason itself where nothing plainer is known."""
    if seed := _SEED.match(reason):
        place = f"after the {seed[3]} that were given" if seed[3] else "in place of a point drawn without a model"
        return f"one of at most {seed[2]} early trials of the advisor's, {place}"
    if gate := _GATE.match(reason):
        part = 1 - float(gate[1])
        said = f"the advisor's, and by the engine's own model among the best {part:.0%} of what the engine would try"
        return said + ("; a trial to see whether the advisor got better" if decision.get("phase") == "probe" else "")
    first, _, rest = reason.partition("; ")
    if first not in _ENGINES:
        return reason
    told = _refused(decision) or _silence(rest)
    return _ENGINES[first] + (f"; {told}" if told else "")


def _silence(text: str) -> str:
    for pattern, words in _SILENCES:
        if match := re.fullmatch(pattern, text):
            return match.expand(words)
    if share := _SHARE.fullmatch(text):
        had, turns, cap = int(share[1]), int(share[2]), float(share[3])
        more = f"one more would be above its share: it had {had} of {turns} turns and may have {cap:.0%} of them"
        return f"the advisor was not asked, since {more}"
    return text


def _refused(decision: Mapping[str, Any]) -> str:
    """Of advice that was asked for and not taken."""
    verdicts = decision.get("verdicts") or []
    if not verdicts:
        return ""
    why = []
    for verdict in verdicts:
        failed = next((check["name"] for check in verdict["checks"] if not check["passed"]), None)
        why.append(_CHECKS.get(str(failed), verdict["reason"]))
    return f"the advisor was asked, and none of its proposals was taken: {'; '.join(dict.fromkeys(why))}"
