"""The caption of tables and figures of effects: everything that a paper's checklist asks."""

from collections.abc import Sequence

import pandas as pd

from partialnas.analysis.ablation.effects import Effects
from partialnas.analysis.formats.caption_sentences import (
    compute_sentence,
    pluralize,
    training_description,
)
from partialnas.analysis.plotting.axes import protocol_label
from partialnas.runs.config.design import CostMatch
from partialnas.runs.config.quantities import QUANTITIES
from partialnas.space.errors import UserError

_MOST_NAMED = 8
_PERCENT = 100


def effects_caption(found: Effects) -> str:
    """The caption of the effects of a study, one sentence for each thing that a reader needs."""
    sentences = [
        _subject(found),
        _varies(found),
        *_intervals(found),
        _sequential(found),
        _equivalence(found),
        _best(found),
        _matched(found),
        _left_out(found),
        *_aliases(found),
        _absent(found.table),
        device(found.rows.frame),
        compute_sentence(found.rows.frame.drop_duplicates("key")),
        _split(found),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def factorial_caption(found: Effects) -> str:
    """The caption of the table of main effects and interactions."""
    return (
        "Main effects and two-factor interactions of the model seed + factors + interactions + "
        "residual by least squares, sums of squares of type II; effect: mean at the second level "
        "minus mean at the first, with a "
        f"{found.comparison.level:.0%} interval that is not adjusted for their number."
    )


def device(frame: pd.DataFrame) -> str:
    """On what throughput was measured; empty where it was not."""
    timed = frame[frame["throughput_img_s"].notna()].assign(family="")
    ways: dict[str, list[str]] = {}
    for form, rows in timed.groupby("form", sort=False, dropna=False):
        for way in _ways(rows):
            ways.setdefault(way, []).extend(rows["arm"].unique() if form != "deploy" else ())
    if not ways:
        return ""
    alone = len(ways) == 1
    texts = [
        way + (f" ({listed(arms)})" if arms and not alone else "") for way, arms in ways.items()
    ]
    noisy = "; ~: noisy, the machine was not quiet" if timed["noisy"].any() else ""
    return f"Throughput: {'; '.join(texts)}{noisy}."


def _ways(rows: pd.DataFrame) -> list[str]:
    quantity = QUANTITIES["throughput_img_s"]
    try:
        return [protocol_label(rows, quantity)]
    except UserError:  # on several devices: a table may tell them all, an axis may not
        parts = rows.groupby(["device", "processor"], sort=False, dropna=False)
        return [*dict.fromkeys(protocol_label(part, quantity) for _, part in parts)]


def listed(names: Sequence[str]) -> str:
    """Names one after another, the last of very many counted."""
    shown = [*dict.fromkeys(names)]
    more = len(shown) - _MOST_NAMED
    between = "; " if any(", " in name for name in shown) else ", "
    return between.join(shown[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _subject(found: Effects) -> str:
    frame, quantity = found.rows.frame, found.quantity
    design = found.design
    kind = f" ({design.kind} design)" if design else ""
    studies = " and ".join(dict.fromkeys(study.name for study in found.rows.studies))
    conditions = ", ".join(filter(None, frame["condition"].unique()))
    under = f" under {conditions}" if conditions else ""
    trained = f", trained on {training_description(frame)}" if len(frame) else ""
    better = "higher" if quantity.better == "max" else "lower"
    return (
        f"{quantity.label} ({better} is better) of {pluralize(len(found.rows.arms), 'arm')} of "
        f"{studies}{kind}{under}{trained}: mean ± standard deviation (n − 1) over n seeds."
    )


def _varies(found: Effects) -> str:
    if len(found.comparison.seeds) < 2:
        return ""
    return (
        "Between seeds initial weights, data order and augmentation vary; arms with the same seed "
        "share them where they coincide."
    )


def _intervals(found: Effects) -> list[str]:
    compared = found.comparison
    if compared.method == "none":
        return [compared.note]
    if not compared.contrasts:
        return ["No comparisons were asked for."]
    baselines = listed([each.against for each in compared.contrasts])
    steps = found.steps
    return [
        f"Δ: difference from {baselines}, {pluralize(len(compared.contrasts), 'contrast')}, p adjusted "
        "for all of them.",
        compared.note,
        _adjusted(found),
        f"Step: difference from the arm before, {pluralize(len(steps.contrasts), 'contrast')} judged "
        "together in the same way."
        if steps
        else "",
        "d: Δ over the residual deviation between seeds "
        f"({found.quantity.text(compared.deviation)}), corrected after Hedges.",
    ]


def _adjusted(found: Effects) -> str:
    if all(len(values) == len(found.comparison.seeds) for values in found.values.values()):
        return ""
    how = (
        "uses the seeds that both arms have"
        if found.comparison.method == "paired"
        else "is adjusted for the seeds that an arm lacks"
    )
    return f"Δ {how}, so it need not be the difference of the means."


def _sequential(found: Effects) -> str:
    rule = found.rows.sequential
    if rule is None:
        return ""
    return (
        f"Seeds were added by rule (Stein's two stages): {rule.min} of every arm first, then as "
        f"many as make intervals of {rule.quantity} at most ±{rule.until:g}, at most {rule.max}."
    )


def _equivalence(found: Effects) -> str:
    if found.margin is None or found.comparison.method == "none":
        return ""
    return (
        f"Equivalent: both one-sided tests reject a difference of {found.margin:g} or more at "
        f"{1 - found.comparison.level:.0%}; “not shown” is no proof of a difference."
    )


def _best(found: Effects) -> str:
    if found.comparison.method == "none":
        return ""
    rule = "its simultaneous intervals against every other arm exclude zero (Hsu)"
    if found.best is None:
        return f"Bold: none; no arm is the best in that {rule}."
    return f"Bold: the best arm, where {rule}."


def _matched(found: Effects) -> str:
    design = found.design
    if design is None or design.match == "none":
        return ""
    twins = {arm.name: arm.matched for arm in design.arms if arm.matched}
    off = {name: each for name, each in twins.items() if each.problem}
    kept = [each for name, each in twins.items() if name not in off]
    errors = [abs(each.error) for each in kept]
    adjusted = pluralize(sum(each.is_adjusted for each in kept), "arm")
    closely = f" (largest difference {_PERCENT * max(errors):.2g} %)" if errors else ""
    fitted = (
        f"Widths of {adjusted} were adjusted to equal {design.match} within "
        f"{_PERCENT * design.tolerance:g} %{closely}."
    )
    return fitted + (f" † Not matched: {_problems(off)}." if off else "")


def _problems(off: dict[str, CostMatch]) -> str:
    told = [
        f"{name} ({_PERCENT * each.error:+.1f} %: {each.problem})" for name, each in off.items()
    ]
    return listed(told)


def _left_out(found: Effects) -> str:
    left_out = found.design.left_out if found.design else ()
    if not left_out:
        return ""
    reasons = listed([each.reason for each in left_out])
    return f"Left out: {pluralize(len(left_out), 'combination')} of levels ({reasons})."


def _aliases(found: Effects) -> list[str]:
    if found.design is None or not found.design.aliases:
        return []
    return [f"Aliases: {listed(found.design.aliases)}."]


def _absent(table: pd.DataFrame) -> str:
    failed, missing = int(table["failed"].sum()), int(table["missing"].sum())
    without = table.loc[table["n"].eq(0), "arm"].tolist()
    parts = [
        f"{pluralize(failed, 'trial')} failed" if failed else "",
        f"{pluralize(missing, 'trial')} not run yet" if missing else "",
        f"without any result: {listed(without)}" if without else "",
    ]
    told = "; ".join(part for part in parts if part)
    return f"Not in the means: {told}." if told else ""


def _split(found: Effects) -> str:
    if found.quantity.key.startswith("test_"):
        return "These are figures of the test split."
    return "The test split was not used."
