"""What a reader of the report must be warned of."""

from collections.abc import Iterator, Sequence

import pandas as pd

from partialnas.analysis.formats.text_table import one_line
from partialnas.analysis.report.audit_section import UNRESOLVED_MARK, AuditSection
from partialnas.analysis.report.condition_section import FrontSection
from partialnas.analysis.report.points import FRONT
from partialnas.analysis.report.study_facts import StudyFacts, shorten
from partialnas.analysis.report.tables import ratio_warning_rows

_MOST_NAMED = 5

Warnings = list[tuple[str, str]]


def report_warnings(
    study: StudyFacts,
    frame: pd.DataFrame,
    fronts: Sequence[FrontSection],
    audits: Sequence[AuditSection],
    warned: pd.DataFrame,
) -> Warnings:
    """Sentences, each with what it is of.

    Args:
        study: what the ledger knows of its study.
        frame: its trials, as `load` gives them.
        fronts: that the report shows.
        audits: that the report shows.
        warned: warnings of learned ratios, as `load_warnings` gives them.
    """
    return [
        *_seeds(frame),
        *_timings(fronts),
        *_ranks(fronts, audits),
        *_arms(study),
        *_machines(study),
        *ratio_warning_rows(warned),
    ]


def _seeds(frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    done = frame[frame["state"].eq("done")]
    if len(done) and done["seed"].nunique() == 1:
        yield (
            "Every network was trained with one seed: differences that are no larger than those "
            "between seeds are not told from chance, and what was chosen as the best looks better "
            "than it is.",
            "`partialnas confirm` trains the best again with fresh seeds.",
        )


def _timings(fronts: Sequence[FrontSection]) -> Iterator[tuple[str, str]]:
    for front in fronts:
        if front.noisy:
            yield (
                f"{front.heading}: {front.noisy:,} networks have noisy timings; the machine was "
                "not quiet, or the interval stayed wide.",
                "Tables mark them with ~, figures draw them hollow.",
            )


def _ranks(
    fronts: Sequence[FrontSection], audits: Sequence[AuditSection]
) -> Iterator[tuple[str, str]]:
    known = {each.condition: each.ranks for each in audits}
    for front in fronts:
        ranks = known.get(front.condition)
        members = [net["label"] for net in front.networks.values() if net["kind"] == FRONT]
        if ranks and (number := ranks.count_unresolved(members)):
            yield (
                f"{front.heading}: the ranks of {number:,} of {len(members):,} networks on it are "
                "not resolved by short training.",
                f"The table marks them with {UNRESOLVED_MARK}.",
            )


def _arms(study: StudyFacts) -> Iterator[tuple[str, str]]:
    arms = study.design.arms if study.design else ()
    off = [arm for arm in arms if arm.matched and arm.matched.problem]
    if off:
        named = ", ".join(arm.name for arm in off[:_MOST_NAMED])
        more = ", …" if len(off) > _MOST_NAMED else ""
        yield f"{len(off):,} arms could not be matched in cost.", one_line(named + more)


def _machines(study: StudyFacts) -> Iterator[tuple[str, str]]:
    known = [environment for environment, _ in study.environments]
    differing = [
        key
        for key in dict.fromkeys(key for each in known for key in each)
        if len({str(each.get(key)) for each in known}) > 1
    ]
    if differing:
        yield (
            f"Trials ran in {len(known)} environments, which differ in "
            f"{shorten(', '.join(differing))}.",
            "Numbers are equal to the last bit only on one machine with the same versions.",
        )
    code = {str(each.get("code", "")) for each in known}
    if dirty := [each for each in code if each.endswith("-dirty")]:
        yield (
            "Trials ran with code that differs from its commit.",
            shorten(", ".join(sorted(dirty))),
        )
