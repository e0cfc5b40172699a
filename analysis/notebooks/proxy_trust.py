# %% [markdown]
# # How far to trust short trainings
#
# A search ranks networks by short trainings. Is that the ranking that longer training would give?
# The ledger ships with the repository: the quickstart study, of which twelve networks were then
# trained four times as long, with two fresh seeds each.

# %%
from pathlib import Path

from partialnas.analysis import audit_figure

try:
    HERE = Path(__file__).parent
except NameError:  # in Jupyter, which starts in the notebook's folder
    HERE = Path.cwd()

STUDY = HERE / "ledgers" / "quickstart"
OUT = Path("results/notebooks/proxy_trust")
OUT.mkdir(parents=True, exist_ok=True)

# %%
found = audit_figure(STUDY, OUT / "audit.pdf")
print(found.caption)

# %% [markdown]
# ## Agreement
#
# `tau` is Kendall's tau-b: 1 where two rankings agree in every pair, 0 where they agree as by
# chance. Read it beside three other rows:
#
# - *two seeds of the short training*: a ranking cannot agree with another one better than with
#   itself;
# - *MACs alone*: if the larger network is nearly always the better, training found out little;
# - the interval: with twelve networks it is wide, and an honest answer is often "not known yet".

# %%
shown = ["target", "ranked_by", "by", "kind", "n", "tau", "tau_low", "tau_high", "regret"]
print(found.agreement[shown].round(2).to_string(index=False))

# %% [markdown]
# In this ledger two seeds of the *longer* training do not agree either: digits are nearly all
# recognised after twelve epochs, and what is left is luck. There is little to predict then, and a
# harder data set or more seeds would be needed, not a longer proxy.
#
# ## Regret
#
# What the network chosen by short training lacks to the best of the sample after the longer one. A
# low tau with a low regret is fine if you want one good network, and not fine if you want a
# ranking.
#
# ## Ranks that cannot be resolved
#
# The ranks that each network could have, given the noise between seeds (95 % for each).

# %%
print(found.ranks.to_string(index=False))
print(found.note)
