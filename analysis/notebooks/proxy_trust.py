# %% [markdown]
# # How far to trust short trainings
#
# A search ranks networks by short trainings. Would longer training give the same ranking? The
# ledger ships with the repository: the quickstart study, with twelve of its networks trained four
# times as long, with two fresh seeds each.

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
result = audit_figure(STUDY, OUT / "audit.pdf")
print(result.caption)
result

# %% [markdown]
# ## Agreement
#
# `tau` is Kendall's tau-b: 1 if two rankings agree in every pair, 0 if they agree no more than by
# chance. Compare it with:
#
# - *two seeds of the short training*: a ranking cannot agree with another one better than with
#   itself;
# - *MACs alone*: if the larger network is nearly always better, training adds little information;
# - the interval: with twelve networks it is wide, and the answer is often "not known yet".

# %%
columns = ["target", "ranked_by", "by", "kind", "n", "tau", "tau_low", "tau_high", "regret"]
print(result.agreement[columns].round(2).to_string(index=False))

# %% [markdown]
# In this ledger two seeds of the *longer* training do not agree either: nearly all digits are
# recognized after twelve epochs, and the remaining differences are chance. There is little to
# predict; a harder data set or more seeds would help, a longer proxy would not.
#
# ## Regret
#
# Regret is the gap, after longer training, between the best network of the sample and the one
# that short training selects. A low tau with a low regret is fine if you want one good network,
# but not if you want a ranking.
#
# ## Unresolved ranks
#
# The possible ranks of each network given the noise between seeds (95 % each).

# %%
print(result.ranks.to_string(index=False))
print(result.note)
