# %% [markdown]
# # Learned ratios (DPConv)
#
# A partial convolution works on a share of the channels; DPConv learns that share for each layer,
# under a budget. The ledger ships with the repository: three budgets, each with a static arm of
# the same cost, and controls for the middle one; two seeds, three epochs.

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
# ## The map of ratios
#
# The ratios of one trial over its epochs, and those at the end of each arm over its seeds.

# %%
drawn = ratio_figure(STUDY, OUT / "ratios.pdf")
print(drawn.caption)

# %% [markdown]
# ## Was the budget met, and is the frozen network the trained one?
#
# `budget_error_*` is what is used over what may be, less 1, in percent: below 0 is under the
# budget. `ratio_gap_worst` is the largest difference between the logits of the two forms, over the
# largest logit; anything near the rounding of 32-bit numbers (1e-7) is none.

# %%
table = load_ratios(STUDY)
summary = ratio_summary(drawn.trials, table, load_warnings(STUDY))
shown = ["series", "seeds", "budget_error_median", "budget_error_worst", "ratio_gap_worst"]
print(summary[shown].to_string(index=False))

# %% [markdown]
# ## Do two seeds learn the same?
#
# If they do not, a picture of one seed's ratios shows an accident. `pearson` and `spearman`
# compare the ratios of pairs of seeds layer by layer; with few layers both vary a lot by chance.

# %%
print(agreement(table).round(2).to_string(index=False))
print(convergence(table).round(2).to_string(index=False))

# %% [markdown]
# ## Did learning help?
#
# Learned ratios have to beat the static ones of the same cost, and the network with the learned
# ratios trained from scratch (`retrained`) must be better than the same ratios in reversed or
# shuffled order: else what was learned is a number of channels, not where they belong. Differences
# are from `static-1/4`, with intervals that hold together with 95 % probability; two seeds make
# them wide.

# %%
found = effects(STUDY, against="static-1/4")
shown = ["arm", "n", "mean", "difference", "low", "high", "p"]
print(found.table[shown].round(3).to_string(index=False))
