"""Neural architecture search and ablation harness for partial-channel networks (PartialNet).

The rooms: `partialnas.space` (what can be built), `partialnas.runs` (one trial and its record),
`partialnas.search` (which trials happen, and where), `partialnas.analysis` (what they show).
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("partialnas")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"
