# %% [markdown]
# # An ablation table
#
# How many parts should a mixer have? Four arms differ only in the number of parts; their widths
# are adjusted so that all need the same multiply-accumulates. Each has three seeds. The ledger
# ships with the repository. Trainings last two epochs, and the answer holds for two epochs only.

# %%
from pathlib import Path

from partialnas.analysis import effects, effects_figure, table_artefact, verify

try:
    HERE = Path(__file__).parent
except NameError:  # in Jupyter, which starts in the notebook's folder
    HERE = Path.cwd()

STUDY = HERE / "ledgers" / "partitions"
OUT = Path("results/notebooks/ablation_table")
OUT.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## Differences from the baseline
#
# `difference` is the mean over seeds of an arm minus its baseline with the same seed. `low` to
# `high` is its simultaneous interval: all intervals of the table together contain the true
# differences with 95 % probability. If an interval contains zero, these seeds do not distinguish
# the arm from its baseline. That does not show that the two are equal.

# %%
result = effects(STUDY)
columns = ["arm", "n", "mean", "sd", "difference", "low", "high", "p"]
print(result.table[columns].round(4).to_string(index=False))
print(f"best arm: {result.best or 'not decided by these intervals'}")

# %% [markdown]
# ## Equivalence
#
# To show that an ingredient makes no relevant difference, state beforehand which difference is
# relevant. This study states `margin: {val_nll: 0.02}`; `equivalence` states whether the data
# show that a difference is smaller. `not shown` means that more seeds are needed.

# %%
print(f"margin: {result.margin} {result.quantity.label}")
print(result.table[["arm", "equivalent_p", "equivalence"]].to_string(index=False))

# %% [markdown]
# ## Matched cost
#
# `match_error` is the relative difference of an arm's multiply-accumulates from its baseline's.

# %%
print(result.table[["arm", "params", "macs", "match_error"]].to_string(index=False))

# %% [markdown]
# ## For the paper
#
# The table in LaTeX (booktabs) with a caption that explains the intervals, and the figure: a dot
# per seed, the mean and its interval.

# %%
artefact = table_artefact([STUDY])
for path in artefact.write(OUT / "partitions.tex"):
    print(path.read_text(encoding="utf-8"))

# %%
figure = effects_figure(STUDY, OUT / "effects.pdf")
print(*figure.files, sep="\n")
figure

# %% [markdown]
# Before you submit, check that the numbers in the file still agree with the ledger.

# %%
verdict = verify(OUT / "partitions.tex", [STUDY])
assert not verdict.differences, verdict.differences
print("every number is equal")
