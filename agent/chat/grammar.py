"""Plain sentences to tools, without a model: a few dozen ways of saying what people ask a tuner.

The grammar never guesses what would change a study: to a sentence that it does not know it answers what it knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from tunewright.engines.space import Space


@dataclass(frozen=True, slots=True)
class Understood:
    """A tool and its arguments, or `reply` where words alone answer."""

    tool: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    reply: str = ""


HELP = """\
Ask in plain words, for example:
  how is it going            the study at a glance
  describe the space         ranges, edits so far
  best, list 10 latest       trials
  trial 7, why 7             one trial with its curve and end, and why it was tried
  what is wrong with 7       what its curve says
  compare 3 and 7            side by side
  what matters               importance of the parameters
  what is wrong              the doctor's findings
  what should I try          the advisor's ideas
  what went wrong with 7     the advisor's opinion; `sum up`: what the study has shown
  find out of memory         search errors, rationales, answers
  what do you believe        what you said of the parameters, and what the trials say to it
  forget belief 2            take one back
  what did advice cost       calls, tokens, trials and gains per advisor
and to change something (you are asked first):
  files, draft train.py      what is here, and a study drafted from a script
  tune train.py              make it a study
  run 10 more, pause, resume train in the background while you talk
  wait                       until the run is over; Ctrl-C stops only the waiting
  verify, verify 7           train the winner again with other seeds: was it luck?
  suggest, observe 7 0.31    train a trial by hand
  try lr=0.01 width=64       put a configuration first in line
  freeze dropout at 0.1      or without a value: the best trial's
  lr between 1e-4 and 1e-2   change a range
  budget 100, budget 100000 tokens, budget 3600 seconds   caps on the whole study
  lr is too high             tilt the search by what you know, and tell the advisor
  export best                a file for other tools; also csv, json, wandb
  undo                       take the last change back
Type quit to leave; a run in the background is parked then."""

_NUMBER = r"(?:trial\s*|number\s*|#\s*)?(\d+)"
_VALUE = r"([-+]?\d*\.?\d+(?:e[-+]?\d+)?)"

_Rule = tuple[str, Callable[[re.Match[str], Space | None], Understood]]


def _tool(tool: str, /, **arguments: Any) -> Understood:
    return Understood(tool, arguments)


def _assignments(match: re.Match[str], space: Space | None) -> Understood:
    pairs = re.findall(r"([A-Za-z_][\w.]*)\s*(?:=|:|\s)\s*([^\s,]+)", match[1])
    return _tool("enqueue", params={name: _scalar(value) for name, value in pairs})


def _freeze(match: re.Match[str], space: Space | None) -> Understood:
    value = None if match[2] is None else _scalar(match[2])
    return _tool("freeze", parameter=match[1], value=value)


def _between(match: re.Match[str], space: Space | None) -> Understood:
    name, low, high = match[1], _scalar(match[2]), _scalar(match[3])
    return _tool("edit_space", parameters={name: {"min": low, "max": high}})


_RULES: tuple[_Rule, ...] = (
    (r"(?:help|\?|what can you do)", lambda m, s: Understood(reply=HELP)),
    (rf"why(?: was| did)?\s+{_NUMBER} (?:stopped|stop|ended|end|failed|fail|paused|rest(?:ed)?)",
     lambda m, s: _tool("trial", number=int(m[1]))),
    (rf"why(?: was)?(?: did you try)?\s+{_NUMBER}(?: tried)?", lambda m, s: _tool("why", number=int(m[1]))),
    (
        rf"(?:diagnose|what is wrong with|what's wrong with|how did)\s+{_NUMBER}(?: (?:train|go))?",
        lambda m, s: _tool("diagnose", number=int(m[1])),
    ),
    (rf"(?:show|trial|look at|curve(?: of)?)\s+{_NUMBER}", lambda m, s: _tool("trial", number=int(m[1]))),
    (
        r"compare\s+(.+)",
        lambda m, s: _tool("compare", numbers=[int(n) for n in re.findall(r"\d+", m[1])]),
    ),
    (r"(?:list|show|the)?\s*(\d+)?\s*(?:latest|last|newest)(?: (\d+))?(?: trials)?",
     lambda m, s: _tool("trials", sort="latest", limit=int(m[1] or m[2] or 10))),
    (r"(?:list|show|the)?\s*(\d+)?\s*(?:best|top)(?: (\d+))?(?: trials| ones)?",
     lambda m, s: _tool("trials", sort="best", limit=int(m[1] or m[2] or 5))),
    (r"(?:list|trials|show trials)\s*(\d+)?(?: latest)?",
     lambda m, s: _tool("trials", sort="latest", limit=int(m[1] or 10))),
    (r"(?:status|study|show|progress|how is it going|how are we doing|how far (?:is it|are we)|where are we)",
     lambda m, s: _tool("study")),
    (r"(?:space|the space|show (?:the )?space|describe (?:the )?(?:space|data))", lambda m, s: _tool("space")),
    (r"(?:files?|scripts?|what is here|ls)", lambda m, s: _tool("files")),
    (r"(?:draft|read|look at|propose(?: a space)? (?:from|for))\s+(\S+\.py)", lambda m, s: _tool("draft", file=m[1])),
    (r"(?:tune|start|create|make(?: a study (?:of|from))?)\s+(\S+\.(?:py|ya?ml))(?:\s+as\s+(\S+))?",
     lambda m, s: _tool("create_study", file=m[1], **({"name": m[2]} if m[2] else {}))),
    (r"(?:export|save|write)(?:\s+(?:the )?(best|csv|json|wandb-best|wandb))?(?:\s+(?:to|as)\s+(\S+))?",
     lambda m, s: _tool("export", format=(m[1] or "best").lower(), **({"file": m[2]} if m[2] else {}))),
    (r"(?:resume|go on|continue)(?: (?:it|training|the run))?", lambda m, s: _tool("run")),
    (r"wait(?: (\d+))?(?: seconds| s)?", lambda m, s: _tool("wait", seconds=min(int(m[1] or 600), 600) or 1)),
    (r"(?:suggest(?: a trial)?|next(?: trial)?)", lambda m, s: _tool("suggest")),
    (rf"(?:observe|result of|trial)\s+{_NUMBER}\s*(?:is|was|=|:)?\s+{_VALUE}",
     lambda m, s: _tool("observe", number=int(m[1]), values=float(m[2]))),
    (rf"(?:fail|trial)\s+{_NUMBER}\s+(?:failed|because|with)?:?\s*(.+)",
     lambda m, s: _tool("observe", number=int(m[1]), error=m[2])),
    (r"(?:what|which parameters?) matters?(?: most)?|importance|what is important", lambda m, s: _tool("importance")),
    (rf"(?:what went wrong with|opinion(?: on| about)?)\s+{_NUMBER}", lambda m, s: _tool("opinion", number=int(m[1]))),
    (r"(?:sum (?:it )?up|summary|summari[sz]e(?: the study)?|what (?:did|have) we learn(?:ed)?)",
     lambda m, s: _tool("summary")),
    (r"(?:doctor|check|diagnose|what is wrong|what's wrong|is anything wrong|any problems?)",
     lambda m, s: _tool("doctor")),
    (r"(?:what (?:should|shall|could) (?:i|we) try(?: next)?|ideas?|any ideas|suggest something|advise me)",
     lambda m, s: _tool("ideas")),
    (r"(?:what do you believe|beliefs?|what did i (?:say|tell you))", lambda m, s: _tool("beliefs")),
    (r"(?:forget|withdraw|drop)(?: belief)?(?: number)? #?(\d+)", lambda m, s: _tool("withdraw", number=int(m[1]))),
    (r"(?:what did (?:the )?advice cost|is (?:the )?advice worth it|worth|cost|advice|what did it cost)",
     lambda m, s: _tool("advice")),
    (rf"(?:search |change |set |keep )?([\w.]+)\s+(?:to |be )?(?:between|from|in)\s+{_VALUE}\s+(?:and|to|\.\.)\s+"
     rf"{_VALUE}", _between),
    (r"(?:find|search(?: for)?|which trials? (?:had|has|say)s?)\s+(.+)", lambda m, s: _tool("search", text=m[1])),
    (r"(?:run|train|continue with|go on with|do)\s+(\d+)(?: more)?(?: trials?)?",
     lambda m, s: _tool("run", trials=int(m[1]))),
    (r"(?:pause|stop|park|halt)(?: (?:it|the study|training))?", lambda m, s: _tool("pause")),
    (r"(?:budget|set (?:the )?budget(?: to)?|allow)\s+(\d+)(?: (trials|tokens|seconds))?(?: in all)?",
     lambda m, s: _tool("set_budget", **{(m[2] or "trials").lower(): int(m[1])})),
    (rf"verify(?: (?:the )?(?:best|winner)| {_NUMBER})?(?: with (\d+) seeds)?|was it (?:just )?luck",
     lambda m, s: _tool("verify", **{k: int(v) for k, v in (("trial", m[1]), ("seeds", m[2])) if v})),
    (r"undo|take (?:it|that) back", lambda m, s: _tool("undo")),
    (r"(?:try|enqueue|test)\s+(.*[=:].*)", _assignments),
    (r"(?:freeze|fix|keep)\s+([\w.]+)(?:\s+(?:at|to|=)\s*(\S+))?", _freeze),
    (r"(?:note|remember|know|tell the advisor)(?: that)?:?\s+(.+)", lambda m, s: _tool("note", text=m[1])),
)  # fmt: skip

_JUDGES = re.compile(
    r"\b(too (?:high|low|big|small|large)|diverge[sd]?|fail(?:s|ed)?|best|better|worse|good|bad|never|always|should|"
    r"must|works?|above|below|around|near|about)\b",
    re.IGNORECASE,
)


def understand(text: str, space: Space | None) -> Understood:
    """The tool that a sentence asks for; a statement about a parameter becomes a note for the advisor."""
    said = " ".join(text.strip().split())
    plain = said.rstrip(".!?").strip()
    if not plain:
        return Understood(reply="Say `help` for what I understand.")
    for pattern, make in _RULES:
        if match := re.fullmatch(pattern, plain, re.IGNORECASE):
            return make(match, space)
    names = space.names if space is not None else ()
    named = [name for name in names if re.search(rf"(?<![\w.]){re.escape(name)}(?![\w])", said)]
    if named and _JUDGES.search(said):
        return _tool("note", text=said)
    return Understood(reply=_unknown(said, space))


def _unknown(said: str, space: Space | None) -> str:
    words = re.findall(r"[A-Za-z_][\w.]*", said)
    close = [near[0] for word in words if (near := get_close_matches(word, _words(space), n=1, cutoff=0.8))]
    hint = f" Did you mean {', '.join(dict.fromkeys(close))}?" if close else ""
    return f"I did not understand that.{hint} Say `help` for what I understand; a language model would understand more."


def _words(space: Space | None) -> Sequence[str]:
    return ["why", "compare", "freeze", "budget", "importance", "doctor", "undo", "pause", "resume", "export",
            *(space.names if space is not None else ())]  # fmt: skip


def _scalar(text: str) -> Any:
    lowered = text.strip("\"'").lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    for kind in (int, float):
        try:
            return kind(lowered)
        except ValueError:
            continue
    return text.strip("\"'")
