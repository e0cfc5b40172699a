"""Fronts, tables and figures from the records of studies.

from partialnas.analysis import effects, effects_figure, export, front, load, load_curves
from partialnas.analysis import pareto_figure, ratio_figure, study_figure, table_artefact, verify

trials = load("results/quickstart")
front(trials, {"val_nll": "min", "throughput_img_s": "max"})
trials.groupby("params_width")["val_accuracy"].mean()
load_curves("results/quickstart").query("epoch == 3")
pareto_figure(trials, "front.pdf", x="throughput_img_s", y="val_accuracy")
study_figure("importance", "results/quickstart").table
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
    "FigureResult": "partialnas.analysis.formats.figure_result",
    "ParetoFigure": "partialnas.analysis.pareto.figure",
    "ParetoOptions": "partialnas.analysis.pareto.figure",
    "Quantity": "partialnas.runs.config.quantities",
    "RatioFigure": "partialnas.analysis.ratios.figure",
    "StudyFigure": "partialnas.analysis.figures.kinds",
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
    "load_curves": "partialnas.analysis.frames.long_tables",
    "load_distribution": "partialnas.analysis.ratios.tables",
    "load_failures": "partialnas.analysis.frames.long_tables",
    "load_measurements": "partialnas.analysis.frames.long_tables",
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
    from partialnas.analysis.ablation.effects import Effects as Effects
    from partialnas.analysis.ablation.effects import effects as effects
    from partialnas.analysis.ablation.figure import EffectsFigure as EffectsFigure
    from partialnas.analysis.ablation.figure import effects_figure as effects_figure
    from partialnas.analysis.ablation.table import table_artefact as table_artefact
    from partialnas.analysis.audit.figure import AuditFigure as AuditFigure
    from partialnas.analysis.audit.figure import audit_figure as audit_figure
    from partialnas.analysis.figures.kinds import StudyFigure as StudyFigure
    from partialnas.analysis.figures.kinds import study_figure as study_figure
    from partialnas.analysis.formats.data_files import export as export
    from partialnas.analysis.formats.figure_result import FigureResult as FigureResult
    from partialnas.analysis.frames.load import empty_trials as empty_trials
    from partialnas.analysis.frames.load import load as load
    from partialnas.analysis.frames.load import load_trials as load_trials
    from partialnas.analysis.frames.long_tables import load_curves as load_curves
    from partialnas.analysis.frames.long_tables import load_failures as load_failures
    from partialnas.analysis.frames.long_tables import load_measurements as load_measurements
    from partialnas.analysis.frames.trials import Trials as Trials
    from partialnas.analysis.pareto.figure import ParetoFigure as ParetoFigure
    from partialnas.analysis.pareto.figure import ParetoOptions as ParetoOptions
    from partialnas.analysis.pareto.figure import pareto_figure as pareto_figure
    from partialnas.analysis.pareto.front import front as front
    from partialnas.analysis.pareto.front import hypervolume as hypervolume
    from partialnas.analysis.pareto.table import pareto_table as pareto_table
    from partialnas.analysis.ratios.agreement import agreement as agreement
    from partialnas.analysis.ratios.agreement import convergence as convergence
    from partialnas.analysis.ratios.figure import RatioFigure as RatioFigure
    from partialnas.analysis.ratios.figure import ratio_figure as ratio_figure
    from partialnas.analysis.ratios.summary import ratio_summary as ratio_summary
    from partialnas.analysis.ratios.tables import load_distribution as load_distribution
    from partialnas.analysis.ratios.tables import load_per_class as load_per_class
    from partialnas.analysis.ratios.tables import load_per_kind as load_per_kind
    from partialnas.analysis.ratios.tables import load_ratios as load_ratios
    from partialnas.analysis.ratios.tables import load_warnings as load_warnings
    from partialnas.analysis.ratios.tables import ratio_table as ratio_table
    from partialnas.analysis.verification import Verdict as Verdict
    from partialnas.analysis.verification import verify as verify
    from partialnas.runs.config.quantities import QUANTITIES as QUANTITIES
    from partialnas.runs.config.quantities import Direction as Direction
    from partialnas.runs.config.quantities import Quantity as Quantity
else:
    __getattr__, __dir__ = lazy_names(__name__, _MODULES)
