# %% [markdown]
# # From an empty folder to a paper figure in ten cells
#
# Write a study, check it, run it, look at its results, draw a figure with panels of your own and
# write the table for the paper. The study trains four small networks with three seeds each on real
# digits, in well under a minute on a laptop. The verbs `check`, `run`, `figure`, `effects` and
# `table` of the command line do the same.

# %%
from pathlib import Path

import matplotlib.pyplot as plt

import partialnas
from partialnas.analysis import effects, effects_figure, study_figure, table_artefact, verify

OUT = Path("results/notebooks/first_study")
OUT.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## Write a study
#
# Which attention on the untouched channels of a partial convolution (PAT) helps? The widths of the
# arms are adjusted so that all need the same multiply-accumulates. The keys under `quick` make the
# study small: for a paper, run it without.

# %%
STUDY = OUT / "attention.yaml"
STUDY.write_text(
    """\
study: attention
question: Which attention beside a partial convolution helps, at equal cost?
task: {data: digits}
base: {stem_stride: 1, width: 8, depths: [1, 1, 1, 1], head_width: 64}
recipe: {use: short, epochs: 20}
seeds: 10
ablation:
  design: one-factor
  baseline: {attention: none}
  match: macs
  factors:
    PAT:
      channel: {attention: channel}
      spatial: {attention: spatial}
      self: {attention: self}
objectives: {val_nll: min, macs: min}
measure: none
executor: {kind: in-process}
quick: {recipe.epochs: 3, seeds: 3}
""",
    encoding="utf-8",
)
print(STUDY)

# %% [markdown]
# ## Check it
#
# All mistakes are shown at once, with their places. Without mistakes: what will be trained, how
# long it takes, and which differences the seeds can show.

# %%
study = partialnas.Study.from_yaml(STUDY, quick=True)
plan = partialnas.check(study)

# %% [markdown]
# ## Run it
#
# The same call resumes a run that was interrupted, and does nothing if all is done.

# %%
FOLDER = partialnas.run(study, OUT / "attention")

# %% [markdown]
# ## Look at the trials
#
# One row per training; `docs/python.md` lists the columns.

# %%
trials = partialnas.load(FOLDER)
trials[["arm", "seed", "state", "val_nll", "val_accuracy", "macs", "params"]].round(3)

# %%
study_figure("curves", FOLDER)

# %% [markdown]
# ## Differences from the baseline
#
# `low` to `high` is the simultaneous interval of a difference: if it contains zero, these seeds do
# not distinguish the arm from the baseline.

# %%
effects(FOLDER).table[["arm", "n", "mean", "difference", "low", "high", "p"]].round(3)

# %% [markdown]
# ## A figure of your own
#
# Figures of one panel draw into axes of yours with `ax=` and keep your style; the rest is
# matplotlib.

# %%
paper, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
effects_figure(FOLDER, ax=left)
left.legend(loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False, fontsize="small")
for arm, rows in trials.groupby("arm", sort=False):
    right.plot(rows["params"] / 1000, rows["val_accuracy"], "o", label=arm)
right.set(xlabel="Parameters (thousands)", ylabel="Validation accuracy (%)")
right.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize="small")
paper.savefig(OUT / "attention.pdf")

# %% [markdown]
# ## The table for the paper
#
# LaTeX (booktabs) with a caption that says how the intervals were computed. `verify` computes every
# number of the file again from the ledger: run it before you submit.

# %%
(table, *_) = table_artefact([FOLDER]).write(OUT / "attention.tex")
print(table.read_text(encoding="utf-8"))

# %%
assert not verify(table, [FOLDER]).differences
print("every number of the table is that of the ledger")
