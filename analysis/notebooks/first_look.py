# %% [markdown]
# # First look at a study
#
# A study is one folder, and all that it found is in one file in it, `ledger.sqlite`. This notebook
# reads one that ships with the repository: 16 small networks, each trained once for three epochs on
# small pictures of handwritten digits. Put the folder of your own study in its place.

# %%
from pathlib import Path

from partialnas.analysis import export, front, hypervolume, load, load_trials, pareto_table
from partialnas.analysis.figures.kinds import study_figure

try:
    HERE = Path(__file__).parent
except NameError:  # in Jupyter, which starts in the notebook's folder
    HERE = Path.cwd()

STUDY = HERE / "ledgers" / "quickstart"
OUT = Path("results/notebooks/first_look")
OUT.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## The trials
#
# One row for each training, failed ones included. `val_nll` is the validation log-likelihood in
# nats (less is better), `val_accuracy` is in percent, `macs` are multiply-accumulates of one image
# as fvcore counts them, `throughput_img_s` is images a second on the device that `device` names.

# %%
trials = load(STUDY)
print(trials["state"].value_counts().to_string())
shown = ["trial", "name", "seed", "val_accuracy", "val_nll", "params", "macs", "throughput_img_s"]
print(trials[shown].sort_values("val_nll").to_string(index=False))

# %% [markdown]
# Why did trials fail? (Here none did.)

# %%
failed = trials[trials["state"].isin(["failed", "timeout"])]
print(failed[["trial", "name", "reason"]].to_string(index=False) if len(failed) else "none failed")

# %% [markdown]
# ## The front
#
# Networks that no other network beats in both objectives. Trained quantities are means over seeds;
# with one seed, as here, the mean is one training, and another seed might give another front.
# `noisy` marks a speed that was measured while the machine was not quiet; this ledger was made on a
# machine with other work, so that its speeds are marked.

# %%
objectives = load_trials(STUDY).objectives
found = front(trials, objectives)
best = found[found["on_front"]].sort_values("throughput_img_s")
print(best[["name", "arm", *objectives, "macs", "noisy"]].to_string(index=False))

# %% [markdown]
# The hypervolume is the area that the front covers, from the corner that the study has stored. It
# is of use only beside another one with the same corner (see `comparing_studies.py`).

# %%
print(f"hypervolume: {hypervolume(trials, objectives):,.0f}")

# %% [markdown]
# ## Figures and files
#
# Each figure has a table (`.csv`) and a caption (`.md`) beside it. `edf` shows the share of
# networks that reach at least a given quality: how good the space is, not only its best network.

# %%
for kind in ("convergence", "edf", "curves"):
    drawn = study_figure(kind, STUDY, OUT / f"{kind}.pdf")
    print(f"{drawn.files[0]}: {drawn.caption}\n")

# %%
table = pareto_table(trials, x="throughput_img_s", y="val_accuracy")
shown = ["label", "on_front", "throughput_img_s", "val_accuracy"]
print(table[shown].head().to_string(index=False))
print(export(trials, OUT / "trials.csv"))
