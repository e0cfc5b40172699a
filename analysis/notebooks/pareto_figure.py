# %% [markdown]
# # A Pareto figure for a paper
#
# The trade-off of two quantities, with what a reader needs to judge it: error bars, how sure the
# front is, and published networks on their own axes. The ledger ships with the repository: nine
# arms with static, learned and control ratios, two seeds each.

# %%
from pathlib import Path

from partialnas.analysis import ParetoOptions, load, pareto_figure, verify
from partialnas.analysis.frames.load import empty_trials

try:
    HERE = Path(__file__).parent
except NameError:  # in Jupyter, which starts in the notebook's folder
    HERE = Path.cwd()

STUDY = HERE / "ledgers" / "static-vs-dynamic"
OUT = Path("results/notebooks/pareto_figure")
OUT.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## One study
#
# Bars are one standard deviation over seeds for what is trained, and the 95 % interval for what is
# measured. A label gives the probability of being on the front: the share of simulated fronts that
# the network is on when every mean is drawn anew from the spread between seeds. Two seeds tell
# little about a spread, so that it is pooled over all networks. `width="page"` makes room for the
# labels; `column` is for figures with fewer of them.

# %%
trials = load(STUDY)
drawn = pareto_figure(
    trials,
    OUT / "front.pdf",
    x="macs",
    y="val_nll",
    style="cvpr",
    width="page",
    options=ParetoOptions(probability=True),
)
print(drawn.caption)

# %% [markdown]
# Every number of the figure is in its table. A network that is on the front of the means with a
# probability of a half is there by luck as much as by merit: quote it so.

# %%
shown = ["label", "macs", "val_nll", "val_nll_sd", "seeds", "on_front", "front_probability"]
print(drawn.table[[key for key in shown if key in drawn.table]].round(3).to_string(index=False))

# %% [markdown]
# ## Published families
#
# PartialNet and FasterNet as published on ImageNet-1K at 224 pixels. They have axes of their own:
# no axis can compare ImageNet with digits, and the function refuses to.

# %%
families = pareto_figure(
    empty_trials(),
    OUT / "families.pdf",
    x="macs",
    y="val_accuracy",
    options=ParetoOptions(families=("partialnet", "fasternet"), size="params"),
)
print(families.caption)

# %% [markdown]
# ## Before you submit
#
# Every file carries the study's digest and the query that made it. `verify` asks the ledger again.

# %%
verdict = verify(OUT / "front.pdf", [STUDY])
assert not verdict.differences, verdict.differences
print(*drawn.files, *families.files, sep="\n")
