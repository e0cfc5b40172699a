"""Captions of tables and figures of effects, with the facts that paper checklists ask for."""

import pandas as pd

from partialnas.analysis.ablation.effects import Effects
from partialnas.analysis.formats.caption_sentences import (
    compute_sentence,
    enumerate_names,
    evaluation_phrase,
    pluralize,
)
from partialnas.analysis.plotting.axes import protocol_label
from partialnas.runs.config.quantities import QUANTITIES
from partialnas.space.errors import UserError

_PERCENT = 100


def effects_caption(result: Effects) -> str:
    """Return the caption of the effects of a study."""
    sentences = [
        _subject(result),
        _randomness(result),
        *_intervals(result),
        _sequential(result),
        _equivalence(result),
        _best(result),
        _matched(result),
        _left_out(result),
        _aliases(result),
        _missing(result.table),
        _throughput(result.rows.frame),
        compute_sentence(result.rows.frame.drop_duplicates("key")),
        _split(result),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def factorial_caption(result: Effects) -> str:
    """Return the caption of the table of main effects and interactions."""
    return (
        "Main effects and two-factor interactions from a least-squares fit of the model seed + "
        "factors + interactions + residual, with type II sums of squares. Effect of a factor: mean "
        "at its second level minus mean at its first. Effect of an interaction, a difference of "
        "differences: the effect of one factor at the second level of the other minus its effect "
        "at the first. Only factors of two levels have such an effect; its "
        f"{result.comparison.level:.0%} interval is not adjusted for multiple comparisons."
    )


def _throughput(frame: pd.DataFrame) -> str:
    """Return how throughput was measured, or "" if it was not."""
    timed = frame[frame["throughput_img_s"].notna()].assign(family="")
    arms_of: dict[str, list[str]] = {}
    for form, rows in timed.groupby("form", sort=False, dropna=False):
        for protocol in _protocols(rows):
            arms = rows["arm"].unique() if form != "deploy" else ()
            arms_of.setdefault(protocol, []).extend(arms)
    if not arms_of:
        return ""
    texts = [
        protocol + (f" ({enumerate_names(arms)})" if arms and len(arms_of) > 1 else "")
        for protocol, arms in arms_of.items()
    ]
    noisy = "; ~: noisy, the machine was not idle" if timed["noisy"].any() else ""
    return f"Throughput: {'; '.join(texts)}{noisy}."


def _protocols(rows: pd.DataFrame) -> list[str]:
    quantity = QUANTITIES["throughput_img_s"]
    try:
        return [protocol_label(rows, quantity)]
    except UserError:  # several devices: they may share a table, but not an axis
        parts = rows.groupby(["device", "processor"], sort=False, dropna=False)
        return [*dict.fromkeys(protocol_label(part, quantity) for _, part in parts)]


def _subject(result: Effects) -> str:
    frame, quantity = result.rows.frame, result.quantity
    design = result.design
    kind = f" ({design.kind} design)" if design else ""
    studies = " and ".join(dict.fromkeys(study.name for study in result.rows.studies))
    conditions = ", ".join(filter(None, frame["condition"].unique()))
    under = f" under {conditions}" if conditions else ""
    evaluated = f", {evaluation_phrase(frame)}" if len(frame) else ""
    better = "higher" if quantity.better == "max" else "lower"
    return (
        f"{quantity.label} ({better} is better) of {pluralize(len(result.rows.arms), 'arm')} of "
        f"{studies}{kind}{under}{evaluated}: mean ± standard deviation (n − 1) over n seeds."
    )


def _randomness(result: Effects) -> str:
    if len(result.comparison.seeds) < 2:
        return ""
    return (
        "Seeds differ in initial weights, data order and augmentation; arms with the same seed "
        "share those that both have."
    )


def _intervals(result: Effects) -> list[str]:
    compared = result.comparison
    if compared.method == "none":
        return [compared.note]
    if not compared.contrasts:
        return ["No comparisons were requested."]
    baselines = enumerate_names([contrast.against for contrast in compared.contrasts])
    contrasts = pluralize(len(compared.contrasts), "contrast")
    steps = pluralize(len(result.steps.contrasts), "contrast") if result.steps else ""
    return [
        f"Δ: difference from {baselines}; {contrasts}, with p adjusted for all of them.",
        compared.note,
        _adjusted(result),
        f"Step: difference from the previous arm; {steps}, tested together in the same way."
        if steps
        else "",
        "d: Δ divided by the residual standard deviation between seeds "
        f"({result.quantity.text(compared.deviation)}), with Hedges' correction.",
    ]


def _adjusted(result: Effects) -> str:
    if all(len(values) == len(result.comparison.seeds) for values in result.values.values()):
        return ""
    method = (
        "uses only the seeds that both arms have"
        if result.comparison.method == "paired"
        else "is adjusted for missing seeds"
    )
    return f"Δ {method}, so it may not equal the difference of the means."


def _sequential(result: Effects) -> str:
    rule = result.rows.sequential
    if rule is None:
        return ""
    return (
        f"Number of seeds by Stein's two-stage rule: first {rule.min} per arm, then as many as "
        f"needed for intervals of {rule.quantity} within ±{rule.until:g}, up to {rule.max}."
    )


def _equivalence(result: Effects) -> str:
    if result.margin is None or result.comparison.method == "none":
        return ""
    return (
        f"Equivalent: both one-sided tests reject a difference of {result.margin:g} or more at "
        f"{1 - result.comparison.level:.0%}; “not shown” does not prove a difference."
    )


def _best(result: Effects) -> str:
    if result.comparison.method == "none":
        return ""
    if result.best is None:
        return (
            "Bold: none; no arm is better than all others with simultaneous intervals that exclude "
            "zero (Hsu)."
        )
    intervals = "its simultaneous intervals against all other arms exclude zero"
    return f"Bold: the best arm; {intervals} (Hsu)."


def _matched(result: Effects) -> str:
    design = result.design
    if design is None or design.match == "none":
        return ""
    twins = {arm.name: arm.matched for arm in design.arms if arm.matched}
    unmatched = {name: match for name, match in twins.items() if match.problem}
    matched = [match for name, match in twins.items() if name not in unmatched]
    errors = [abs(match.error) for match in matched]
    adjusted = pluralize(sum(match.is_adjusted for match in matched), "arm")
    largest = f" (largest difference {_PERCENT * max(errors):.2g} %)" if errors else ""
    sentence = (
        f"Widths of {adjusted} were adjusted to equal {design.match} within "
        f"{_PERCENT * design.tolerance:g} %{largest}."
    )
    problems = [f"{n} ({_PERCENT * m.error:+.1f} %: {m.problem})" for n, m in unmatched.items()]
    return sentence + (f" † Not matched: {enumerate_names(problems)}." if problems else "")


def _left_out(result: Effects) -> str:
    left_out = result.design.left_out if result.design else ()
    if not left_out:
        return ""
    reasons = enumerate_names([combination.reason for combination in left_out])
    return f"Left out: {pluralize(len(left_out), 'combination')} of levels ({reasons})."


def _aliases(result: Effects) -> str:
    aliases = result.design.aliases if result.design else ()
    return f"Aliases: {enumerate_names(aliases)}." if aliases else ""


def _missing(table: pd.DataFrame) -> str:
    failed, missing = int(table["failed"].sum()), int(table["missing"].sum())
    empty = table.loc[table["n"].eq(0), "arm"].tolist()
    parts = [
        f"{pluralize(failed, 'trial')} failed" if failed else "",
        f"{pluralize(missing, 'trial')} not run yet" if missing else "",
        f"arms without results: {enumerate_names(empty)}" if empty else "",
    ]
    text = "; ".join(part for part in parts if part)
    return f"Not in the means: {text}." if text else ""


def _split(result: Effects) -> str:
    if result.quantity.key.startswith("test_"):
        return "The results are those of the test split."
    return "The test split was not used."
