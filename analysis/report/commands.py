"""The commands that repeat a study and recompute its figures and tables, run in its folder."""

import shlex
from collections.abc import Sequence

from partialnas.analysis.report.audit_section import AuditSection
from partialnas.analysis.report.condition_section import EffectsSection, FrontSection
from partialnas.analysis.report.study_facts import StudyFacts

Commands = list[tuple[str, list[str]]]


def reproduction_commands(
    study: StudyFacts,
    fronts: Sequence[FrontSection],
    effects: Sequence[EffectsSection],
    audits: Sequence[AuditSection],
    *,
    has_learned_ratios: bool,
) -> Commands:
    """Return headings with their commands, which a shell runs in the folder of the ledger.

    Args:
        study: facts of the study.
        fronts: front sections of the report.
        effects: effects sections of the report.
        audits: audit sections of the report.
        has_learned_ratios: whether networks of the study learned ratios.
    """
    option = " --rehearse" if study.is_dry_run else ""
    commands: Commands = [("The study", [f"partialnas run study.yaml{option} --out repeated"])]
    for front in fronts:
        if front.figures:
            axes = f"-x {shlex.quote(front.x)} -y {shlex.quote(front.y)}"
            option = _condition_option(front.condition)
            line = f"partialnas pareto . {axes}{option} -o {front.id}.pdf"
            commands.append((front.heading, [line]))
    if study.is_search and any(front.figures for front in fronts):
        options = [_condition_option(front.condition) for front in fronts]
        lines = [f"partialnas table .{option} -o front.tex" for option in options]
        commands.append(("Table of the front", lines))
    for section in effects:
        if not section.message:
            commands.append((section.heading, _effects_commands(section)))
    if has_learned_ratios:
        commands.append(("Learned ratios", ["partialnas ratios . -o ratios.pdf"]))
    for audit in audits:
        option = _condition_option(audit.condition)
        commands.append((audit.heading, [f"partialnas audit . --report{option} -o audit.pdf"]))
    exports = ["partialnas export . -o trials.csv", "partialnas report . -o report.html"]
    return [*commands, ("All trials, and this report", exports)]


def _effects_commands(section: EffectsSection) -> list[str]:
    option = _condition_option(section.condition)
    lines = [f"partialnas effects .{option} -o {section.id}.pdf"] if section.figures else []
    lines.append(f"partialnas table .{option} -o {section.id}.tex")
    if section.factorial:
        lines.append(f"partialnas effects . --kind interaction{option} -o interaction.pdf")
    return lines


def _condition_option(condition: str) -> str:
    return f" --condition {shlex.quote(condition)}" if condition else ""
