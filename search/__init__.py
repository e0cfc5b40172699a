"""Studies: which networks are trained and timed, in which order, and on which workers.

Each name is imported on first use; importing this package imports neither torch nor Ray.
"""

from typing import TYPE_CHECKING

from partialnas.lazy import lazy_names

_MODULES = {
    "Executor": "partialnas.search.executors.base",
    "InProcess": "partialnas.search.executors.base",
    "ItemResult": "partialnas.search.executors.base",
    "ObjectiveValues": "partialnas.search.samplers.base",
    "PastProposal": "partialnas.search.samplers.base",
    "Proposal": "partialnas.search.samplers.base",
    "ProposalSource": "partialnas.search.samplers.base",
    "Study": "partialnas.search.study.study",
    "StudyCheck": "partialnas.search.check.study_check",
    "check_study": "partialnas.search.check.check_study",
    "load_study": "partialnas.search.study.study_file",
    "merge_studies": "partialnas.search.followup.merge_studies",
    "rehearse_study": "partialnas.search.session.run_study",
    "run_study": "partialnas.search.session.run_study",
    "to_yaml": "partialnas.search.study.study_file",
}
__all__ = [*_MODULES]

if TYPE_CHECKING:
    from partialnas.search.check.check_study import check_study as check_study
    from partialnas.search.check.study_check import StudyCheck as StudyCheck
    from partialnas.search.executors.base import Executor as Executor
    from partialnas.search.executors.base import InProcess as InProcess
    from partialnas.search.executors.base import ItemResult as ItemResult
    from partialnas.search.followup.merge_studies import merge_studies as merge_studies
    from partialnas.search.samplers.base import ObjectiveValues as ObjectiveValues
    from partialnas.search.samplers.base import PastProposal as PastProposal
    from partialnas.search.samplers.base import Proposal as Proposal
    from partialnas.search.samplers.base import ProposalSource as ProposalSource
    from partialnas.search.session.run_study import rehearse_study as rehearse_study
    from partialnas.search.session.run_study import run_study as run_study
    from partialnas.search.study.study import Study as Study
    from partialnas.search.study.study_file import load_study as load_study
    from partialnas.search.study.study_file import to_yaml as to_yaml
else:
    __getattr__, __dir__ = lazy_names(__name__, _MODULES)
