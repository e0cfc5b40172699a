# %% [markdown]
# # Comparing two studies
#
# The same space, the same budget of 16 trainings, two samplers: NSGA-II (`quickstart`) and random
# (`quickstart-random`). Both ledgers ship with the repository.

# %%
from pathlib import Path

import pandas as pd

from partialnas.analysis import front, hypervolume, load, pareto_figure
from partialnas.analysis.figures.kinds import study_figure
from partialnas.runs.config.quantities import Direction

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
# Speeds may stand on one axis only if they were measured alike (device, threads, batch, precision,
# form, resolution); the function refuses otherwise. Counts, such as `macs`, are always comparable.

# %%
both = load(STUDIES)
drawn = pareto_figure(both, OUT / "fronts.pdf", x="macs", y="val_nll")
print(drawn.caption)

# %% [markdown]
# ## Hypervolume
#
# One number for a front: the area that it covers from a corner, which must be the same for both.
# Larger is better.

# %%
objectives: dict[str, Direction] = {"val_nll": "min", "macs": "min"}
corner = {"val_nll": 2.303, "macs": float(both["macs"].max()) * 1.1}
rows = [
    {
        "study": name,
        "trials": len(trials),
        "on front": int(front(trials, objectives)["on_front"].sum()),
        "hypervolume": hypervolume(trials, objectives, corner),
        "hours": trials["seconds"].sum() / 3600,
    }
    for name, trials in both.groupby("study")
]
print(pd.DataFrame(rows).round(3).to_string(index=False))

# %% [markdown]
# One run of each sampler says nothing about samplers: another seed of the search would have given
# another number. Run each several times (`--set search.seed=1`, ...) and draw the median and
# quartiles with `ParetoOptions(attainment=True)` before you call one the better.

# %% [markdown]
# ## How good was what each one tried?
#
# The share of networks that are at least so good, with 95 % bands (bootstrap over networks). Bands
# describe random samples; NSGA-II's networks are not one.

# %%
errors = study_figure("edf", STUDIES, OUT / "errors.pdf", metric="val_nll")
print(errors.caption)

# %% [markdown]
# ## Networks that both have trained
#
# The same network with the same seed and recipe is the same training, whichever study asks for it.
# NSGA-II begins at random, and both searches have the same seed: they share their first networks.

# %%
keys = both.groupby("key")["study"].nunique()
print(f"{int((keys > 1).sum())} trainings are in both studies, of {len(keys)}")
