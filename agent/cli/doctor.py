"""`tunewright doctor`: findings with their fixes, worst first, and an exit code that a script can read."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tunewright.agent.agent import Agent
from tunewright.agent.cli import reading, render
from tunewright.agent.cli.doctor_file import examine_file
from tunewright.agent.doctor import Finding, examine_study
from tunewright.agent.settings import Budget
from tunewright.agent.view import StudyView
from tunewright.engines.errors import FixArgument

EXIT_WARNINGS, EXIT_ERRORS = 1, 3
STYLES = {"error": "red", "warning": "yellow", "note": "dim"}


def run(target: str | None, store: Path, apply: bool, as_json: bool) -> None:
    path = Path(target) if target else None
    of_file = path is not None and path.suffix in (".yaml", ".yml")
    if path is not None and of_file:
        if apply:
            fix = "change the file by hand: its comments stay yours"
            raise FixArgument("works on studies, not on files", field="--apply", value=target, fix=fix)
        findings = examine_file(path)
    else:
        with reading.opened(store) as file:
            view = StudyView(file, reading.chosen(file, target))
            findings = examine_study(view, _budget(view))
            name = view.record.name
        if apply:
            _apply(store, name, findings, quiet=as_json)
    if as_json:
        render.document({"findings": [finding.to_dict() for finding in findings]})
    elif not findings:
        render.line("Nothing is wrong that the doctor knows of.", "green")
    else:
        _tell(findings, applied=apply, of_file=of_file)
    severities = {finding.severity for finding in findings}
    if "error" in severities:
        sys.exit(EXIT_ERRORS)
    if "warning" in severities and not apply:
        sys.exit(EXIT_WARNINGS)


def _budget(view: StudyView) -> Budget:
    return Budget(**view.record.config.get("budget", {}))


def _tell(findings: Sequence[Finding], applied: bool, of_file: bool) -> None:
    for finding in findings:
        render.line(f"{finding.severity}: {finding.message}  [{finding.code}]", STYLES[finding.severity])
        render.line(f"  fix: {finding.fix}")
        if finding.by_hand and not of_file:
            render.line(f"  by hand: {finding.by_hand}", "dim")
    fixable = sum(finding.can_apply for finding in findings)
    if fixable and not applied and not of_file:
        render.line()
        render.line(f"--apply carries out {render.count(fixable, 'fix')}; a space edit leaves every trial as it is.")


def _apply(store: Path, name: str, findings: Sequence[Finding], quiet: bool) -> None:
    """Carries out what can be: one edit of the space, and configurations for the queue."""
    with reading.opened(store) as file:
        before = reading.chosen(file, name).config
    with Agent(store=store, study=name, advisor=None) as agent:
        agent._reconfigure(**before)  # its advisor and budget, which opening it for this has put aside
        changes = {n: p for finding in findings for n, p in finding.space.items()}
        lines = agent.edit_space({**agent.space.declared, **changes}, [c.text for c in agent.space.constraints])
        for finding in findings:
            for params in finding.enqueue:
                agent.enqueue(params, note=f"doctor: {finding.code}")
                lines.append(f"enqueued {dict(params)}")
    for text in lines if not quiet else ():
        render.line(f"applied: {text}", "green")
