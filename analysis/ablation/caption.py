"""Captions of tables and figures of effects, with the facts that paper checklists ask for."""

from collections.abc import Callable, Collection, Sequence

import pandas as pd

from partialnas.analysis.ablation.arm_axes import shown_bounds
from partialnas.analysis.ablation.effects import Effects, limit_verdicts
from partialnas.analysis.formats.caption import Caption
from partialnas.analysis.formats.caption_sentences import (
    compute_sentence,
    enumerate_names,
    evaluation_phrase,
    pluralize,
)
from partialnas.analysis.frames.chance import chance_note
from partialnas.analysis.frames.columns import calls_function
from partialnas.analysis.frames.feasibility import UNDECIDED_NOTE
from partialnas.analysis.frames.timings import eager_rows
from partialnas.analysis.plotting.axes import protocol_label
from partialnas.analysis.plotting.limit_lines import LIMIT_LINE_NOTE
from partialnas.runs.config.quantities import QUANTITIES, Quantity, name_in_sentence
from partialnas.space.errors import UserError
from partialnas.space.validation import join_words

_PERCENT = 100


def effects_caption(result: Effects) -> str:
    """Return the full caption of the table of a study's effects."""
    return table_caption([result]).text()


def table_caption(results: Sequence[Effects], shown: Collection[str] | None = None) -> Caption:
    """Return the caption of a table of effects.

    Args:
        results: effects on each quantity of the table.
        shown: columns that the table has, from `COLUMNS`; by default all.
    """

    def has(key: str) -> bool:
        return shown is None or key in shown

    first = results[0]
    spread = any(result.table["sd"].notna().any() for result in results)
    brief = [
        _subject(results, _means(spread)),
        *(_delta(results) if has("delta") else ()),
        _step(first) if has("step") else "",
        _best(results) if has("metric") else "",
        *((_equivalent(result) for result in results) if has("equivalence") else ()),
        _unmatched(first),
        _limits(first),
        chance_note(first.rows.trials),
    ]
    tested = any(map(has, ("delta", "p", "effect", "equivalence", "step")))
    frame = first.rows.frame
    details = [
        _randomness(first),
        *(_tests(results, has) if tested else ()),
        _sequential(first),
        _matched(first),
        _left_out(first),
        _aliases(first),
        _missing(first.table),
        _throughput(frame, noisy=has("throughput")) if has("throughput") or has("latency") else "",
        compute_sentence(frame.drop_duplicates("key")),
        _split(results),
    ]
    return Caption(brief, details)


def figure_caption(result: Effects, kind: str, points: pd.DataFrame) -> Caption:
    """Return the caption of a figure of effects.

    Args:
        result: effects of the study.
        kind: `effect`, `interaction` or `ladder`.
        points: points that the figure shows.
    """
    drawn = {"effect": _effect_marks, "interaction": _interaction_marks, "ladder": _ladder_marks}
    contrasts = kind == "effect" or (kind == "ladder" and result.steps is not None)
    lines = kind != "effect" and bool(shown_bounds(result, points))
    brief = [
        *drawn[kind](result, points),
        _unmatched(result),
        _limits(result, lines=lines),
        chance_note(result.rows.trials),
    ]
    frame = result.rows.frame
    details = [
        _randomness(result),
        result.comparison.note if contrasts else "",
        _sequential(result),
        _matched(result),
        _missing(result.table),
        compute_sentence(frame.drop_duplicates("key")),
        _split([result]),
    ]
    return Caption(brief, details)


def _effect_marks(result: Effects, points: pd.DataFrame) -> list[str]:
    means = points[points["seed"].isna()]
    estimates = ["mean"]
    if means["low"].notna().any():
        estimates.append(f"simultaneous {result.comparison.level:.0%} interval")
    margin = "" if result.margin is None else f" Band: differences within ±{result.margin:g}."
    return [
        _subject([result], f"difference from {_baselines(result)}, {' with '.join(estimates)}"),
        f"Dots: the difference of each seed.{margin}",
    ]


def _interaction_marks(result: Effects, points: pd.DataFrame) -> list[str]:
    bars = (
        f" Bars: {result.comparison.level:.0%} interval of a single mean, without the variation "
        "that seeds share."
        if points["low"].notna().any()
        else ""
    )
    text = "mean over all arms and seeds with the two levels"
    return [_subject([result], text), f"Parallel lines: no interaction.{bars}"]


def _ladder_marks(result: Effects, points: pd.DataFrame) -> list[str]:
    means = points[points["seed"].isna()]
    level = f"{result.comparison.level:.0%}"
    bars = f" bars: {level} interval of a single mean;" if means["low"].notna().any() else ""
    steps = (
        f" right: difference from the previous rung with its simultaneous {level} interval, dark "
        "where this excludes zero."
        if means["step_low"].notna().any()
        else " right: difference from the previous rung."
    )
    return [_subject([result], "mean of each rung"), f"Dots: seeds;{bars}{steps}"]


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


def _throughput(frame: pd.DataFrame, *, noisy: bool) -> str:
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
    mark = "; ~: noisy, the machine was not idle" if noisy and timed["noisy"].any() else ""
    mark += "; §: eager" if eager_rows(timed).any() else ""
    return f"Throughput: {'; '.join(texts)}{mark}."


def _protocols(rows: pd.DataFrame) -> list[str]:
    quantity = QUANTITIES["throughput_img_s"]
    try:
        return [protocol_label(rows, quantity)]
    except UserError:  # several devices: they may share a table, but not an axis
        parts = rows.groupby(["device", "processor"], sort=False, dropna=False)
        return [*dict.fromkeys(protocol_label(part, quantity) for _, part in parts)]


def _subject(results: Sequence[Effects], shown: str) -> str:
    """Return which quantities of which arms are shown, and how: `shown`."""
    result = results[0]
    frame, design = result.rows.frame, result.design
    kind = f" ({design.kind} design)" if design else ""
    studies = " and ".join(dict.fromkeys(study.name for study in result.rows.studies))
    conditions = ", ".join(filter(None, frame["condition"].unique()))
    under = f" under {conditions}" if conditions else ""
    evaluated = f", {evaluation_phrase(frame)}" if len(frame) else ""
    names = [result.quantity.name, *(name_in_sentence(r.quantity.key) for r in results[1:])]
    directed = [_directed(r.quantity, name) for r, name in zip(results, names, strict=True)]
    quantities = join_words(directed)
    arms = pluralize(len(result.rows.arms), "arm")
    return f"{quantities} of {arms} of {studies}{kind}{under}{evaluated}: {shown}."


def _directed(quantity: Quantity, name: str) -> str:
    """Return the name of a quantity with its unit and its better direction."""
    better = f"{'higher' if quantity.better == 'max' else 'lower'} is better"
    return f"{name} ({', '.join(filter(None, (quantity.unit, better)))})"


def _means(spread: bool) -> str:
    return "mean ± standard deviation (n − 1) over n seeds" if spread else "one seed for each arm"


def _randomness(result: Effects) -> str:
    if len(result.comparison.seeds) < 2:
        return ""
    if calls_function(result.rows.trials.frame):
        return "Seeds are passed to the function; all arms have the same."
    return (
        "Seeds differ in initial weights, data order and augmentation; arms with the same seed "
        "share those that both have."
    )


def _baselines(result: Effects) -> str:
    return enumerate_names([contrast.against for contrast in result.comparison.contrasts])


def _delta(results: Sequence[Effects]) -> list[str]:
    """Return the meaning of the column of differences, or why there is none."""
    first = results[0]
    if not first.comparison.contrasts:
        return []
    if first.comparison.method == "none":
        return [f"Δ: difference from {_baselines(first)}.", first.comparison.note]
    level = f"{first.comparison.level:.0%}"
    interval = f"with its simultaneous {level} interval"
    return [f"Δ: difference from {_baselines(first)}, {interval}."]


def _step(result: Effects) -> str:
    return "Step: difference from the previous arm." if result.steps else ""


def _tests(results: Sequence[Effects], has: Callable[[str], bool]) -> list[str]:
    """Return how the differences were tested, for each quantity."""
    first = results[0]
    if first.comparison.method == "none":
        return [] if has("delta") and first.comparison.contrasts else [first.comparison.note]
    if not first.comparison.contrasts:
        return ["No comparisons were requested."]
    number = pluralize(len(first.comparison.contrasts), "contrast")
    adjusted = ", with p adjusted for all of them" if has("p") else ""
    alone = "; each quantity is tested on its own" if len(results) > 1 else ""
    steps = ""
    if first.steps and has("step"):
        together = pluralize(len(first.steps.contrasts), "contrast")
        steps = f"Steps: {together}, tested together in the same way."
    sentences = [f"Δ: {number}{adjusted}{alone}.", *_methods(results), _adjusted(first), steps]
    if has("effect"):
        deviations = join_words([r.quantity.text(r.comparison.deviation) for r in results])
        sentences.append(
            "d: Δ divided by the residual standard deviation between seeds "
            f"({deviations}), with Hedges' correction."
        )
    return sentences


def _methods(results: Sequence[Effects]) -> list[str]:
    """Return the notes on the methods, with the quantity if there are several."""
    if len(results) == 1:
        return [results[0].comparison.note]
    return [f"{result.quantity.name}: {result.comparison.note}" for result in results]


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
    name = name_in_sentence(rule.quantity)
    return (
        f"Number of seeds by Stein's two-stage rule: first {rule.min} per arm, then as many as "
        f"needed for intervals of {name} within ±{rule.until:g}, up to {rule.max}."
    )


def _equivalent(result: Effects) -> str:
    if result.margin is None or result.comparison.method == "none":
        return ""
    text = (
        f"Equivalent: both one-sided tests reject a difference of {result.margin:g} or more at "
        f"{1 - result.comparison.level:.0%}"
    )
    unproved = result.table["equivalence"].eq("not shown").any()
    return f"{text}; “not shown” does not prove a difference." if unproved else f"{text}."


def _best(results: Sequence[Effects]) -> str:
    if all(result.best is None for result in results):
        return ""
    intervals = "its simultaneous intervals against all other arms exclude zero"
    return f"Bold: the best arm; {intervals} (Hsu)."


def _unmatched(result: Effects) -> str:
    design = result.design
    if design is None or design.match == "none":
        return ""
    twins = {arm.name: arm.matched for arm in design.arms if arm.matched and arm.matched.problem}
    problems = [f"{n} ({_PERCENT * m.error:+.1f} %: {m.problem})" for n, m in twins.items()]
    return f"† Not matched: {enumerate_names(problems)}." if problems else ""


def _limits(result: Effects, *, lines: bool = False) -> str:
    """Return the meaning of the marks of limits; `lines` states whether a bound is drawn."""
    verdicts = limit_verdicts(result)
    outside = [arm for arm, verdict in verdicts.items() if verdict == "no"]
    sentences = [
        f"‡ Outside the limits of the study: {enumerate_names(outside)}." if outside else "",
        UNDECIDED_NOTE if "?" in verdicts.values() else "",
        LIMIT_LINE_NOTE if lines else "",
    ]
    return " ".join(filter(None, sentences))


def _matched(result: Effects) -> str:
    design = result.design
    if design is None or design.match == "none":
        return ""
    twins = {arm.name: arm.matched for arm in design.arms if arm.matched}
    matched = [match for match in twins.values() if not match.problem]
    errors = [abs(match.error) for match in matched]
    adjusted = pluralize(sum(match.is_adjusted for match in matched), "arm")
    largest = f" (largest difference {_PERCENT * max(errors):.2g} %)" if errors else ""
    return (
        f"Widths of {adjusted} were adjusted to equal {name_in_sentence(design.match)} within "
        f"{_PERCENT * design.tolerance:g} %{largest}."
    )


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


def _split(results: Sequence[Effects]) -> str:
    if any(result.quantity.key.startswith("test_") for result in results):
        return "The results are those of the test split."
    called = any(calls_function(result.rows.trials.frame) for result in results)
    return "" if called else "The test split was not used."
