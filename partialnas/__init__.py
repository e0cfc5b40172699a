"""Neural architecture search and ablations for partial-channel networks (PartialNet).

import partialnas

study = partialnas.Study.from_yaml("quickstart", overrides={"budget.trials": 20})
partialnas.check(study)
trials = partialnas.load(partialnas.run(study))

`partialnas.space` describes networks and spaces of networks, `partialnas.runs` trains and measures
them and keeps the records, `partialnas.search` runs studies, `partialnas.analysis` turns records
into fronts, tables and figures. Each name is imported on first use.
"""

import sys
from typing import TYPE_CHECKING

from partialnas.lazy import lazy_names

if sys.platform == "win32":
    raise ImportError(
        "partialnas runs on Linux and macOS; on Windows, install and run it in WSL, the Windows "
        "Subsystem for Linux (`wsl --install`)"
    )

_MODULES = {
    "MachineError": "partialnas.space.errors",
    "Study": "partialnas.search.study.study",
    "UserError": "partialnas.space.errors",
    "__version__": "partialnas.runs.system.environment",
    "check": "partialnas.commands.studies.study",
    "load": "partialnas.analysis.frames.load",
    "load_splits": "partialnas.commands.studies.data",
    "run": "partialnas.commands.studies.study",
}
__all__ = [*_MODULES]

if TYPE_CHECKING:
    from partialnas.analysis.frames.load import load as load
    from partialnas.commands.studies.data import load_splits as load_splits
    from partialnas.commands.studies.study import check as check
    from partialnas.commands.studies.study import run as run
    from partialnas.runs.system.environment import __version__ as __version__
    from partialnas.search.study.study import Study as Study
    from partialnas.space.errors import MachineError as MachineError
    from partialnas.space.errors import UserError as UserError
else:
    __getattr__, __dir__ = lazy_names(__name__, _MODULES)
