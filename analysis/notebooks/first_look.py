# %% [markdown]
# # First look at a study
#
# A study is one folder, and all of its results are in the file `ledger.sqlite` there. This
# notebook reads a study that ships with the repository: 16 small networks, each trained once for
# three epochs on small images of handwritten digits. Replace it by the folder of your own study.

# %%
from pathlib import Path

from partialnas.analysis import (
    export,
    front,
    hypervolume,
    load,
    load_trials,
    pareto_table,
    study_figure,
)

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
# One row per training, including failed ones. `val_nll` is the negative log-likelihood on the
# validation split in nats (lower is better), `val_accuracy` is in percent, `macs` are the
# multiply-accumulates of one image as counted by fvcore, and `throughput_img_s` is in images per
# second on the device in the column `device`.

# %%
trials = load(STUDY)
print(trials["state"].value_counts().to_string())
columns = ["trial", "name", "seed", "val_accuracy", "val_nll", "params", "macs", "throughput_img_s"]
print(trials[columns].sort_values("val_nll").to_string(index=False))

# %% [markdown]
# The reasons of failed trials (this study has none).

# %%
failed = trials[trials["state"].isin(["failed", "timeout"])]
print(failed[["trial", "name", "reason"]].to_string(index=False) if len(failed) else "none failed")

# %% [markdown]
# ## The front
#
# The networks that no other network dominates in the objectives. Trained quantities are means
# over seeds. With one seed, as here, the mean is a single training, and another seed could give
# another front. `noisy` marks speeds that were measured while other processes ran; this ledger
# was made on a busy machine, so its speeds are marked.

# %%
objectives = load_trials(STUDY).objectives
rows = front(trials, objectives)
best = rows[rows["on_front"]].sort_values("throughput_img_s")
print(best[["name", "arm", *objectives, "macs", "noisy"]].to_string(index=False))

# %% [markdown]
# The hypervolume is the area between the front and the study's reference point. It is meaningful
# only in comparison with another front and the same reference point (see `comparing_studies`).

# %%
print(f"hypervolume: {hypervolume(trials, objectives):,.0f}")

# %% [markdown]
# ## Figures and files
#
# Each figure comes with a table (`.csv`) and a caption (`.md`). `edf` shows the share of networks
# with at most a given error: it describes the whole space, not only its best network.

# %%
curves = study_figure("curves", STUDY, OUT / "curves.pdf")
print(curves.caption)
curves

# %%
errors = study_figure("edf", STUDY, OUT / "edf.pdf")
print(errors.caption)
errors

# %%
convergence = study_figure("convergence", STUDY, OUT / "convergence.pdf")
print(convergence.caption)
convergence

# %% [markdown]
# In the table of two other quantities, the front is still that of the study's objectives.

# %%
table = pareto_table(trials, x="throughput_img_s", y="val_accuracy")
columns = ["label", "on_front", "throughput_img_s", "val_accuracy"]
print(table[columns].head().to_string(index=False))
print(export(trials, OUT / "trials.csv"))
