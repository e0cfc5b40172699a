"""Fronts, tables and figures from the records of studies.

from partialnas.analysis import effects, effects_figure, export, front, load, pareto_figure
from partialnas.analysis import ratio_figure, table_artefact, verify

trials = load("results/quickstart")
front(trials, {"val_nll": "min", "throughput_img_s": "max"})
pareto_figure(trials, "front.pdf", x="throughput_img_s", y="val_accuracy")
export(trials, "trials.csv")
ratio_figure("results/static-vs-dynamic", "ratios.pdf")
effects("results/partitions", margin=0.2).table
effects_figure("results/partitions", "effects.pdf")
table_artefact(["results/partitions"]).write("partitions.tex")
verify("partitions.tex", ["results/partitions"]).differences

Each name is imported on first use; importing this package imports neither torch, Ray, pandas nor
matplotlib.
"""

from typing import TYPE_CHECKING

from partialnas.lazy import lazy_names

_MODULES = {
    "QUANTITIES": "partialnas.runs.config.quantities",
    "AuditFigure": "partialnas.analysis.audit.figure",
    "Direction": "partialnas.runs.config.quantities",
    "Effects": "partialnas.analysis.ablation.effects",
    "EffectsFigure": "partialnas.analysis.ablation.figure",
    "ParetoFigure": "partialnas.analysis.pareto.figure",
    "ParetoOptions": "partialnas.analysis.pareto.figure",
    "Quantity": "partialnas.runs.config.quantities",
    "RatioFigure": "partialnas.analysis.ratios.figure",
    "Trials": "partialnas.analysis.frames.trials",
    "Verdict": "partialnas.analysis.verification",
    "agreement": "partialnas.analysis.ratios.agreement",
    "audit_figure": "partialnas.analysis.audit.figure",
    "convergence": "partialnas.analysis.ratios.agreement",
    "effects": "partialnas.analysis.ablation.effects",
    "effects_figure": "partialnas.analysis.ablation.figure",
    "empty_trials": "partialnas.analysis.frames.load",
    "export": "partialnas.analysis.formats.data_files",
    "front": "partialnas.analysis.pareto.front",
    "hypervolume": "partialnas.analysis.pareto.front",
    "load": "partialnas.analysis.frames.load",
    "load_distribution": "partialnas.analysis.ratios.tables",
    "load_per_class": "partialnas.analysis.ratios.tables",
    "load_per_kind": "partialnas.analysis.ratios.tables",
    "load_ratios": "partialnas.analysis.ratios.tables",
    "load_trials": "partialnas.analysis.frames.load",
    "load_warnings": "partialnas.analysis.ratios.tables",
    "pareto_figure": "partialnas.analysis.pareto.figure",
    "pareto_table": "partialnas.analysis.pareto.table",
    "ratio_figure": "partialnas.analysis.ratios.figure",
    "ratio_summary": "partialnas.analysis.ratios.summary",
    "ratio_table": "partialnas.analysis.ratios.tables",
    "study_figure": "partialnas.analysis.figures.kinds",
    "table_artefact": "partialnas.analysis.ablation.table",
    "verify": "partialnas.analysis.verification",
}
__all__ = [*_MODULES]

if TYPE_CHECKING:
    from partialnas.analysis.ablation.effects import Effects, effects
    from partialnas.analysis.ablation.figure import EffectsFigure, effects_figure
    from partialnas.analysis.ablation.table import table_artefact
    from partialnas.analysis.audit.figure import AuditFigure, audit_figure
    from partialnas.analysis.figures.kinds import study_figure
    from partialnas.analysis.formats.data_files import export
    from partialnas.analysis.frames.load import empty_trials, load, load_trials
    from partialnas.analysis.frames.trials import Trials
    from partialnas.analysis.pareto.figure import ParetoFigure, ParetoOptions, pareto_figure
    from partialnas.analysis.pareto.front import front, hypervolume
    from partialnas.analysis.pareto.table import pareto_table
    from partialnas.analysis.ratios.agreement import agreement, convergence
    from partialnas.analysis.ratios.figure import RatioFigure, ratio_figure
    from partialnas.analysis.ratios.summary import ratio_summary
    from partialnas.analysis.ratios.tables import (
        load_distribution,
        load_per_class,
        load_per_kind,
        load_ratios,
        load_warnings,
        ratio_table,
    )
    from partialnas.analysis.verification import Verdict, verify
    from partialnas.runs.config.quantities import QUANTITIES, Direction, Quantity
else:
    __getattr__, __dir__ = lazy_names(__name__, _MODULES)
