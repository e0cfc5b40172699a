"""Single trials: data, training, measuring, and the ledger that keeps their records.

Each name is imported on first use; importing this package does not import torch.
"""

from typing import TYPE_CHECKING

from partialnas.lazy import lazy_names

_MODULES = {
    "QUANTITIES": "partialnas.runs.config.quantities",
    "RECIPES": "partialnas.runs.config.recipe",
    "Context": "partialnas.runs.trials.context",
    "Job": "partialnas.runs.records.job",
    "Ledger": "partialnas.runs.ledger.ledger",
    "LedgerReader": "partialnas.runs.ledger.reader",
    "Limit": "partialnas.runs.config.metric_limits",
    "Measurement": "partialnas.runs.records.measurement",
    "Protocol": "partialnas.runs.config.protocol",
    "Quantity": "partialnas.runs.config.quantities",
    "Recipe": "partialnas.runs.config.recipe",
    "Record": "partialnas.runs.records.record",
    "RecordedStudy": "partialnas.runs.ledger.study_meta",
    "Task": "partialnas.runs.datasets.task",
    "TimmModel": "partialnas.runs.records.subject",
    "build_network": "partialnas.runs.trials.build",
    "contact_sheet": "partialnas.runs.datasets.contact_sheet",
    "export_model": "partialnas.runs.export.export_model",
    "inspect_data": "partialnas.runs.datasets.overview",
    "measure_many": "partialnas.runs.measure.measure",
    "parse_subject": "partialnas.runs.records.subject",
    "resolve_task": "partialnas.runs.datasets.task",
}
__all__ = [*_MODULES]

if TYPE_CHECKING:
    from partialnas.runs.config.metric_limits import Limit as Limit
    from partialnas.runs.config.protocol import Protocol as Protocol
    from partialnas.runs.config.quantities import QUANTITIES as QUANTITIES
    from partialnas.runs.config.quantities import Quantity as Quantity
    from partialnas.runs.config.recipe import RECIPES as RECIPES
    from partialnas.runs.config.recipe import Recipe as Recipe
    from partialnas.runs.datasets.contact_sheet import contact_sheet as contact_sheet
    from partialnas.runs.datasets.overview import inspect_data as inspect_data
    from partialnas.runs.datasets.task import Task as Task
    from partialnas.runs.datasets.task import resolve_task as resolve_task
    from partialnas.runs.export.export_model import export_model as export_model
    from partialnas.runs.ledger.ledger import Ledger as Ledger
    from partialnas.runs.ledger.reader import LedgerReader as LedgerReader
    from partialnas.runs.ledger.study_meta import RecordedStudy as RecordedStudy
    from partialnas.runs.measure.measure import measure_many as measure_many
    from partialnas.runs.records.job import Job as Job
    from partialnas.runs.records.measurement import Measurement as Measurement
    from partialnas.runs.records.record import Record as Record
    from partialnas.runs.records.subject import TimmModel as TimmModel
    from partialnas.runs.records.subject import parse_subject as parse_subject
    from partialnas.runs.trials.build import build_network as build_network
    from partialnas.runs.trials.context import Context as Context
else:
    __getattr__, __dir__ = lazy_names(__name__, _MODULES)
