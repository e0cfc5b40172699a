"""Neural architecture search and ablations for partial-channel networks (PartialNet).

import partialnas

folder = partialnas.run("search/studies/quickstart.yaml", quick=True)
trials = partialnas.load(folder)

`partialnas.space` describes networks and spaces of networks, `partialnas.runs` trains and measures
them and keeps the records, `partialnas.search` runs studies, `partialnas.analysis` turns records
into fronts, tables and figures. Each name is imported on first use.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from partialnas.lazy import lazy_names

try:
    __version__ = version("partialnas")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"

_MODULES = {
    "check": "partialnas.commands.study",
    "load": "partialnas.analysis.frames.load",
    "run": "partialnas.commands.study",
}
__all__ = ["__version__", *_MODULES]

if TYPE_CHECKING:
    from partialnas.analysis.frames.load import load as load
    from partialnas.commands.study import check as check
    from partialnas.commands.study import run as run
else:
    __getattr__, __dir__ = lazy_names(__name__, _MODULES)
