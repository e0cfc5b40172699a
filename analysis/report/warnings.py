"""Warnings of the report."""

from collections.abc import Iterator, Sequence

import pandas as pd

from partialnas.analysis.formats.text_table import one_line
from partialnas.analysis.report.audit_section import UNRESOLVED_MARK, AuditSection
from partialnas.analysis.report.condition_section import FrontSection
from partialnas.analysis.report.points import FRONT
from partialnas.analysis.report.study_facts import StudyFacts, shorten
from partialnas.analysis.report.tables import ratio_warning_rows
from partialnas.runs.ledger.rows import RESULT_STATES
from partialnas.runs.records.record import SOURCE_KEY

_MAX_NAMES = 5

Warnings = list[tuple[str, str]]


def report_warnings(
    study: StudyFacts,
    frame: pd.DataFrame,
    fronts: Sequence[FrontSection],
    audits: Sequence[AuditSection],
    ratio_warnings: pd.DataFrame,
) -> Warnings:
    """Return warnings, each with a remark or the items that it concerns.

    Args:
        study: facts of the study.
        frame: the study's trials.
        fronts: front sections of the report.
        audits: audit sections of the report.
        ratio_warnings: warnings of learned ratios, as `load_warnings` returns them.
    """
    return [
        *_seeds(study, frame),
        *_sources(frame),
        *_timings(fronts),
        *_ranks(fronts, audits),
        *_arms(study),
        *_machines(study),
        *ratio_warning_rows(ratio_warnings),
    ]


def _seeds(study: StudyFacts, frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    done = frame[frame["state"].eq("done")]
    if len(done) and done["seed"].nunique() == 1:
        done_by = ("evaluated", "evaluates") if study.calls_function else ("trained", "trains")
        yield (
            f"Every network was {done_by[0]} with one seed: differences between networks cannot be "
            "told from differences between seeds, and the best network looks better than it is.",
            f"`partialnas confirm` {done_by[1]} the best networks again with fresh seeds.",
        )


def _sources(frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    ended = frame[frame["state"].isin(RESULT_STATES) & frame["function"].ne("")]
    if ended["function_source"].nunique() > 1:
        yield (
            f"Results came of {ended['function_source'].nunique()} sources of "
            f"{', '.join(ended['function'].unique())}: they may not be comparable.",
            "The table of sources counts them; `partialnas export` names the source of each trial.",
        )


def _timings(fronts: Sequence[FrontSection]) -> Iterator[tuple[str, str]]:
    for front in fronts:
        if front.noisy:
            yield (
                f"{front.heading}: {front.noisy:,} networks have noisy timings: other processes "
                "were running, or the interval stayed wide.",
                "Tables mark them with ~, figures with hollow markers.",
            )


def _ranks(
    fronts: Sequence[FrontSection], audits: Sequence[AuditSection]
) -> Iterator[tuple[str, str]]:
    by_condition = {audit.condition: audit.ranks for audit in audits}
    for front in fronts:
        ranks = by_condition.get(front.condition)
        members = [net["label"] for net in front.networks.values() if net["kind"] == FRONT]
        if ranks and (number := ranks.count_unresolved(members)):
            yield (
                f"{front.heading}: short {ranks.audit.work} does not resolve the ranks of "
                f"{number:,} of its {len(members):,} networks.",
                f"The table marks them with {UNRESOLVED_MARK}.",
            )


def _arms(study: StudyFacts) -> Iterator[tuple[str, str]]:
    design = study.recorded.design
    arms = design.arms if design else ()
    unmatched = [arm for arm in arms if arm.matched and arm.matched.problem]
    if unmatched:
        names = ", ".join(arm.name for arm in unmatched[:_MAX_NAMES])
        more = ", …" if len(unmatched) > _MAX_NAMES else ""
        yield f"The cost of {len(unmatched):,} arms could not be matched.", one_line(names + more)


def _machines(study: StudyFacts) -> Iterator[tuple[str, str]]:
    environments = [environment for environment, _ in study.environments]
    differing = [
        key
        for key in dict.fromkeys(key for environment in environments for key in environment)
        if key != SOURCE_KEY
        and len({str(environment.get(key)) for environment in environments}) > 1
    ]
    if differing:
        yield (
            f"Trials ran in {len(environments)} environments, which differ in "
            f"{shorten(', '.join(differing))}.",
            "Results are bit-identical only on one machine with the same versions.",
        )
    code = {str(environment.get("code", "")) for environment in environments}
    if dirty := [version for version in code if version.endswith("-dirty")]:
        versions = shorten(", ".join(sorted(dirty)))
        yield "Trials ran with uncommitted changes of the code.", versions
