# %% [markdown]
# # Comparing two studies
#
# The same space and the same budget of 16 trainings, with two samplers: NSGA-II (`quickstart`)
# and random (`quickstart-random`). Both ledgers ship with the repository.

# %%
from pathlib import Path

import pandas as pd

from partialnas.analysis import Direction, front, hypervolume, load, pareto_figure, study_figure

try:
    HERE = Path(__file__).parent
except NameError:  # in Jupyter, which starts in the notebook's folder
    HERE = Path.cwd()

STUDIES = [HERE / "ledgers" / "quickstart", HERE / "ledgers" / "quickstart-random"]
OUT = Path("results/notebooks/comparing_studies")
OUT.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## Two fronts in one figure
#
# Speeds can share an axis only if they were measured with the same device, threads, batch size,
# precision, form and resolution; the function raises an error otherwise. Counts such as `macs`
# are always comparable. The fronts are those in the studies' own objectives, so that a figure of
# other quantities is a projection: some members of a front are dominated in it (diamonds).

# %%
both = load(STUDIES)
figure = pareto_figure(both, OUT / "fronts.pdf", x="macs", y="val_nll")
print(figure.caption)
figure

# %% [markdown]
# ## Hypervolume
#
# The hypervolume is the area between a front and a reference point, which must be the same for
# both fronts. Larger is better.

# %%
objectives: dict[str, Direction] = {"val_nll": "min", "macs": "min"}
reference_point = {"val_nll": 2.303, "macs": float(both["macs"].max()) * 1.1}
rows = [
    {
        "study": name,
        "trials": len(trials),
        "on front": int(front(trials, objectives)["on_front"].sum()),
        "hypervolume": hypervolume(trials, objectives, reference_point),
        "hours": trials["seconds"].sum() / 3600,
    }
    for name, trials in both.groupby("study")
]
print(pd.DataFrame(rows).round(3).to_string(index=False))

# %% [markdown]
# One run of each sampler does not compare the samplers: another seed of the search would give
# another number. Run each several times (`--set search.seed=1`, ...) and draw the median and
# quartiles with `ParetoOptions(attainment=True)` before you call one better.

# %% [markdown]
# ## Distribution of errors
#
# The share of networks with at most a given error, with 95 % bands (bootstrap over networks). The
# bands hold for random samples; the networks of NSGA-II are not a random sample.

# %%
errors = study_figure("edf", STUDIES, OUT / "errors.pdf", metric="val_nll")
print(errors.caption)
errors

# %% [markdown]
# ## Trainings in both studies
#
# The same network with the same seed and recipe is the same training in any study. NSGA-II starts
# with random networks, and both searches have the same seed, so their first networks are the
# same.

# %%
keys = both.groupby("key")["study"].nunique()
print(f"{int((keys > 1).sum())} trainings are in both studies, of {len(keys)}")
