# %% [markdown]
# # An ablation table
#
# How many parts should a mixer have? Four arms, each the baseline but for the number of parts,
# widths adjusted so that all cost the same multiply-accumulates, three seeds each. The ledger
# ships with the repository; two epochs are short, and the answer is about two epochs.

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
# ## What differs, and by how much
#
# `difference` is the mean over seeds of an arm minus its baseline with the same seed. `low` to
# `high` is its interval: all intervals of the table together hold the true differences with 95 %
# probability. An interval that has zero in it says: these seeds do not tell the two apart. It does
# not say that they are equal.

# %%
found = effects(STUDY)
shown = ["arm", "n", "mean", "sd", "difference", "low", "high", "p"]
print(found.table[shown].round(4).to_string(index=False))
print(f"one best arm: {found.best or 'none that the intervals support'}")

# %% [markdown]
# ## Equal?
#
# To say that an ingredient makes no difference that matters, state beforehand what would matter.
# The study did (`margin: {val_nll: 0.02}`); `equivalence` says whether the data show that a
# difference is smaller. `not shown` asks for more seeds.

# %%
print(f"margin: {found.margin} {found.quantity.label}")
print(found.table[["arm", "equivalent_p", "equivalence"]].to_string(index=False))

# %% [markdown]
# ## Were they really matched?
#
# `match_error` is by which share an arm's multiply-accumulates differ from its baseline's.

# %%
print(found.table[["arm", "params", "macs", "match_error"]].to_string(index=False))

# %% [markdown]
# ## For the paper
#
# The table in LaTeX (booktabs), with a caption that says what the intervals mean, and the figure:
# a dot for each seed, the mean, the interval.

# %%
artefact = table_artefact([STUDY])
for path in artefact.write(OUT / "partitions.tex"):
    print(path.read_text(encoding="utf-8"))

# %%
drawn = effects_figure(STUDY, OUT / "effects.pdf")
print(*drawn.files, sep="\n")

# %% [markdown]
# Before you submit: do the numbers in the file still agree with the ledger?

# %%
verdict = verify(OUT / "partitions.tex", [STUDY])
assert not verdict.differences, verdict.differences
print("every number is equal")
