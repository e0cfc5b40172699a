"""The commands that make a study again, and each figure and table of its report."""

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
    """Headings with the commands below each.

    Args:
        study: what the ledger knows of its study.
        fronts: that the report shows.
        effects: that the report shows.
        audits: that the report shows.
        has_learned_ratios: whether ratios were learned.
    """
    found: Commands = [("The study", ["partialnas run DIR/study.yaml --out ANOTHER_DIR"])]
    for front in fronts:
        if front.figures:
            axes = f"-x {shlex.quote(front.x)} -y {shlex.quote(front.y)}"
            under = _under(front.condition)
            file = f"{front.id}.pdf"
            found.append((front.heading, [f"partialnas pareto DIR {axes}{under} -o {file}"]))
    if study.is_search and any(front.figures for front in fronts):
        lines = [f"partialnas table DIR{_under(each.condition)} -o front.tex" for each in fronts]
        found.append(("Table of the front", lines))
    for view in effects:
        if not view.message:
            found.append((view.heading, _of_effects(view)))
    if has_learned_ratios:
        found.append(("Learned ratios", ["partialnas ratios DIR -o ratios.pdf"]))
    for audit in audits:
        line = f"partialnas audit DIR --report{_under(audit.condition)} -o audit.pdf"
        found.append((audit.heading, [line]))
    found.append(
        ("Every trial, and this report", [
            "partialnas export DIR -o trials.csv",
            "partialnas report DIR -o report.html",
        ])
    )  # fmt: skip
    return found


def _of_effects(view: EffectsSection) -> list[str]:
    under = _under(view.condition)
    lines = [f"partialnas effects DIR{under} -o {view.id}.pdf"] if view.figures else []
    lines.append(f"partialnas table DIR{under} -o {view.id}.tex")
    if view.factorial:
        lines.append(f"partialnas effects DIR --kind interaction{under} -o interaction.pdf")
    return lines


def _under(condition: str) -> str:
    return f" --condition {shlex.quote(condition)}" if condition else ""
