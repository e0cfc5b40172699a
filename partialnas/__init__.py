"""Neural architecture search and ablations for partial-channel networks (PartialNet).

import partialnas

folder = partialnas.run("search/studies/quickstart.yaml", quick=True)
trials = partialnas.load(folder)

`partialnas.space` describes networks and spaces of networks, `partialnas.runs` trains and measures
them and keeps the records, `partialnas.search` runs studies, `partialnas.analysis` turns records
into fronts, tables and figures. Each name is imported on first use.
"""

from typing import TYPE_CHECKING

from partialnas.lazy import lazy_names

_MODULES = {
    "__version__": "partialnas.runs.system.environment",
    "check": "partialnas.commands.studies.study",
    "load": "partialnas.analysis.frames.load",
    "run": "partialnas.commands.studies.study",
}
__all__ = [*_MODULES]

if TYPE_CHECKING:
    from partialnas.analysis.frames.load import load as load
    from partialnas.commands.studies.study import check as check
    from partialnas.commands.studies.study import run as run
    from partialnas.runs.system.environment import __version__ as __version__
else:
    __getattr__, __dir__ = lazy_names(__name__, _MODULES)
