# %% [markdown]
# # Learned ratios (DPConv)
#
# A partial convolution processes a share of the channels; DPConv learns this share for each layer
# under a budget. The ledger ships with the repository: three budgets, each with a static arm of
# the same cost, and control arms for the middle budget; two seeds, three epochs.

# %%
from pathlib import Path

from partialnas.analysis import (
    agreement,
    convergence,
    effects,
    load_ratios,
    load_warnings,
    ratio_figure,
    ratio_summary,
)

try:
    HERE = Path(__file__).parent
except NameError:  # in Jupyter, which starts in the notebook's folder
    HERE = Path.cwd()

STUDY = HERE / "ledgers" / "static-vs-dynamic"
OUT = Path("results/notebooks/learned_ratios")
OUT.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## The learned ratios
#
# The ratios of one trial over its epochs, and the final ratios of each arm over its seeds.

# %%
figure = ratio_figure(STUDY, OUT / "ratios.pdf")
print(figure.caption)
figure

# %% [markdown]
# ## Budget, and equality of the frozen network
#
# `budget_error_*` is the relative difference from the budget in percent; negative values are
# under the budget. `ratio_gap_worst` is the largest difference between the logits of the trained
# and the frozen form, relative to the largest logit; values near 1e-7 are rounding of 32-bit
# numbers.

# %%
table = load_ratios(STUDY)
summary = ratio_summary(figure.trials, table, load_warnings(STUDY))
columns = ["series", "seeds", "budget_error_median", "budget_error_worst", "ratio_gap_worst"]
print(summary[columns].to_string(index=False))

# %% [markdown]
# ## Agreement between seeds
#
# If seeds disagree, the ratios of a single seed are accidental. `pearson` and `spearman` compare
# the ratios of pairs of seeds layer by layer; with few layers both vary a lot by chance.

# %%
print(agreement(table).round(2).to_string(index=False))
print(convergence(table).round(2).to_string(index=False))

# %% [markdown]
# ## Benefit of learning
#
# Learned ratios should beat static ratios of the same cost. And the network with the learned
# ratios trained from scratch (`retrained`) should beat the same ratios in reversed or shuffled
# order: otherwise only the number of channels was learned, not where they belong. Differences are
# from `static-1/4`, with simultaneous 95 % intervals; with two seeds they are wide.

# %%
result = effects(STUDY, against="static-1/4")
columns = ["arm", "n", "mean", "difference", "low", "high", "p"]
print(result.table[columns].round(3).to_string(index=False))
