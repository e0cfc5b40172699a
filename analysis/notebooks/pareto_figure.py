# %% [markdown]
# # A Pareto figure for a paper
#
# The trade-off of two quantities with error bars and front probabilities, and published networks
# on axes of their own. The ledger ships with the repository: nine arms with static, learned and
# control ratios, two seeds each.

# %%
from pathlib import Path

from partialnas.analysis import ParetoOptions, empty_trials, load, pareto_figure, verify

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
# Bars are one standard deviation over seeds for trained quantities, and the 95 % interval for
# measured ones. Labels give the probability of being on the front: the share of simulated fronts
# that contain the network if every mean is drawn from the spread between seeds. Two seeds say
# little about a spread, so it is pooled over all networks. `width="page"` makes room for the
# labels; `column` is for figures with fewer labels.

# %%
trials = load(STUDY)
figure = pareto_figure(
    trials,
    OUT / "front.pdf",
    x="macs",
    y="val_nll",
    style="cvpr",
    width="page",
    options=ParetoOptions(probability=True),
)
print(figure.caption)
figure

# %% [markdown]
# Every number of the figure is in its table. A network that is on the front with a probability of
# one half is there by chance as much as by merit; report the probability with it.

# %%
columns = ["label", "macs", "val_nll", "val_nll_sd", "seeds", "on_front", "front_probability"]
print(figure.table[[key for key in columns if key in figure.table]].round(3).to_string(index=False))

# %% [markdown]
# ## Published families
#
# PartialNet and FasterNet as published on ImageNet-1K at 224 pixels. They need axes of their own:
# results on ImageNet and on digits are not comparable, and the function raises an error.

# %%
families = pareto_figure(
    empty_trials(),
    OUT / "families.pdf",
    x="macs",
    y="val_accuracy",
    options=ParetoOptions(families=("partialnet", "fasternet"), size="params"),
)
print(families.caption)
families

# %% [markdown]
# ## Before you submit
#
# Every file carries the study's digest and its query. `verify` repeats the query.

# %%
verdict = verify(OUT / "front.pdf", [STUDY])
assert not verdict.differences, verdict.differences
print(*figure.files, *families.files, sep="\n")
