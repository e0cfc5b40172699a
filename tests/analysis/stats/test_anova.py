import itertools

import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from partialnas.analysis.stats.anova import anova
from partialnas.runs.config.design import Factor

Levels = dict[str, dict[str, str]]
Values = dict[str, dict[int, float]]

PARTS = Factor(name="parts", levels=("2", "3", "4"), baseline="2")
ATTENTION = Factor(name="attention", levels=("none", "channel"), baseline="none")
RATIO = Factor(name="ratio", levels=("1/8", "1/4"), baseline="1/8")
FIRST = {"parts": "2", "attention": "none", "ratio": "1/8"}


def study(*factors: Factor, seeds: int = 3, random: int = 0) -> tuple[Values, Levels]:
    rng = np.random.default_rng(random)
    names = [factor.name for factor in factors]
    combinations = itertools.product(*(factor.levels for factor in factors))
    levels = {" ".join(of): dict(zip(names, of, strict=True)) for of in combinations}
    blocks = rng.normal(0, 1, seeds)
    values = {
        arm: {seed: 90 + len(of["parts"]) + blocks[seed] + rng.normal() for seed in range(seeds)}
        for arm, of in levels.items()
    }
    return values, levels


def by_statsmodels(values: Values, levels: Levels) -> pd.DataFrame:
    rows = [
        {"y": value, "seed": seed, **levels[arm]}
        for arm, of in values.items()
        for seed, value in of.items()
    ]
    terms = "(C(parts, Sum) + C(attention, Sum) + C(ratio, Sum)) ** 2"
    fitted = ols(f"y ~ C(seed) + {terms}", pd.DataFrame(rows)).fit()
    return anova_lm(fitted, typ=2)


@pytest.mark.parametrize("lost", [0, 1, 4])
def test_sums_of_squares_and_f_tests_match_statsmodels(lost: int) -> None:
    values, levels = study(PARTS, ATTENTION, RATIO)
    for arm in [*values][:lost]:  # unbalanced, as after failed trials
        del values[arm][lost % 3]
    ours = anova(values, levels, (PARTS, ATTENTION, RATIO)).set_index("term")
    theirs = by_statsmodels(values, levels).drop(index="C(seed)")
    assert ours["squares"].to_numpy() == pytest.approx(theirs["sum_sq"].to_numpy())
    assert ours["degrees"].tolist() == theirs["df"].tolist()
    assert ours["f"].to_numpy()[:-1] == pytest.approx(theirs["F"].to_numpy()[:-1])
    assert ours["p"].to_numpy()[:-1] == pytest.approx(theirs["PR(>F)"].to_numpy()[:-1])
    rest = theirs["sum_sq"].iloc[-1]
    eta = theirs["sum_sq"] / (theirs["sum_sq"] + rest)
    assert ours["partial_eta_squared"].to_numpy()[:-1] == pytest.approx(eta.to_numpy()[:-1])


def test_two_level_effects_are_differences_of_means() -> None:
    two = Factor(name="parts", levels=("2", "3"), baseline="2")
    values, levels = study(two, ATTENTION)
    table = anova(values, levels, (two, ATTENTION)).set_index("term")
    mean = {arm: np.mean([*of.values()]) for arm, of in values.items()}
    parts = (mean["3 none"] + mean["3 channel"] - mean["2 none"] - mean["2 channel"]) / 2
    both = mean["3 channel"] - mean["2 channel"] - mean["3 none"] + mean["2 none"]
    assert table.loc["parts", "effect"] == pytest.approx(parts)
    assert table.loc["parts × attention", "effect"] == pytest.approx(both)
    # 12 values less intercept, 2 seeds, 2 factors, 1 interaction; t(6) at 97.5 % is 2.446912
    half = 2.446912 * np.sqrt(table.loc["residual", "squares"] / 6 / 12 * 4)
    assert table.loc["residual", "degrees"] == 6
    assert table.loc["parts", "high"] - parts == pytest.approx(half, rel=1e-5)
    assert parts - table.loc["parts", "low"] == pytest.approx(half, rel=1e-5)
    # a difference of two differences has twice the standard error
    assert table.loc["parts × attention", "high"] - both == pytest.approx(2 * half, rel=1e-5)
    assert both - table.loc["parts × attention", "low"] == pytest.approx(2 * half, rel=1e-5)


def test_effects_of_a_constructed_table_are_recovered() -> None:
    two = Factor(name="parts", levels=("2", "3"), baseline="2")
    _, levels = study(two, ATTENTION, RATIO)
    # attention adds 1 at two parts and 4 at three; ratio adds 0.5; parts add 2 without attention
    values = {
        arm: {
            seed: 90 + 2 * (of["parts"] == "3") + (of["attention"] == "channel")
            + 3 * (of["parts"] == "3") * (of["attention"] == "channel")
            + 0.5 * (of["ratio"] == "1/4") + 0.1 * seed
            for seed in range(2)
        }
        for arm, of in levels.items()
    }  # fmt: skip
    effect = anova(values, levels, (two, ATTENTION, RATIO)).set_index("term")["effect"]
    assert effect.drop("residual").to_dict() == pytest.approx(
        {
            "parts": 3.5, "attention": 2.5, "ratio": 0.5,
            "parts × attention": 3.0, "parts × ratio": 0.0, "attention × ratio": 0.0,
        }
    )  # fmt: skip


@pytest.mark.parametrize("lost", [0, 2])
def test_interactions_are_the_product_terms_of_a_regression(lost: int) -> None:
    two = Factor(name="parts", levels=("2", "3"), baseline="2")
    values, levels = study(two, ATTENTION, RATIO)
    for arm in [*values][:lost]:
        del values[arm][1]
    ours = anova(values, levels, (two, ATTENTION, RATIO)).set_index("term")
    rows = [
        {
            "y": value,
            "seed": seed,
            **{name: int(of[name] != first) for name, first in FIRST.items()},
        }
        for arm, seeds in values.items()
        for seed, value in seeds.items()
        for of in (levels[arm],)
    ]
    fitted = ols("y ~ C(seed) + (parts + attention + ratio) ** 2", pd.DataFrame(rows)).fit()
    for one, other in itertools.combinations(FIRST, 2):
        row = ours.loc[f"{one} × {other}"]
        low, high = fitted.conf_int().loc[f"{one}:{other}"]
        expected = [fitted.params[f"{one}:{other}"], low, high]
        assert row[["effect", "low", "high"]].tolist() == pytest.approx(expected)


def test_a_half_fraction_lists_its_aliases() -> None:
    two = Factor(name="parts", levels=("2", "3"), baseline="2")
    values, levels = study(two, ATTENTION, RATIO)
    signs = {name: {f.levels[0]: -1, f.levels[1]: 1} for name, f in (
        ("parts", two), ("attention", ATTENTION), ("ratio", RATIO)
    )}  # fmt: skip
    half = [a for a, of in levels.items() if np.prod([signs[n][v] for n, v in of.items()]) == 1]
    table = anova({arm: values[arm] for arm in half}, levels, (two, ATTENTION, RATIO))
    aliases = dict(zip(table["term"], table["also"], strict=True))
    # I = ABC, so that each main effect is the interaction of the two other factors
    assert aliases == {
        "parts": "attention × ratio",
        "attention": "parts × ratio",
        "ratio": "parts × attention",
        "residual": "",
    }


def test_an_empty_cell_costs_one_degree_of_freedom() -> None:
    values, levels = study(PARTS, ATTENTION)
    del values["4 channel"]
    table = anova(values, levels, (PARTS, ATTENTION)).set_index("term")
    assert table.loc["parts × attention", "degrees"] == 1
    assert table["p"].iloc[:-1].between(0, 1).all()


def test_a_saturated_design_has_no_tests() -> None:
    values, levels = study(PARTS, ATTENTION, seeds=1)
    table = anova(values, levels, (PARTS, ATTENTION))
    assert table["degrees"].iloc[-1] == 0
    assert table[["f", "p", "low"]].isna().all(axis=None)
