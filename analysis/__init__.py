"""Records in, conclusions out: tables, fronts, figures. Takes neither torch nor ray.

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
"""

from partialnas.analysis.ablation.effects import Effects, effects
from partialnas.analysis.ablation.figure import EffectsFigure, effects_figure
from partialnas.analysis.ablation.table import table_artefact
from partialnas.analysis.audit.figure import AuditFigure, audit_figure
from partialnas.analysis.formats.data_files import export
from partialnas.analysis.frames.load import load
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
from partialnas.runs.config.quantities import QUANTITIES, Quantity

__all__ = [
    "QUANTITIES",
    "AuditFigure",
    "Effects",
    "EffectsFigure",
    "ParetoFigure",
    "ParetoOptions",
    "Quantity",
    "RatioFigure",
    "Verdict",
    "agreement",
    "audit_figure",
    "convergence",
    "effects",
    "effects_figure",
    "export",
    "front",
    "hypervolume",
    "load",
    "load_distribution",
    "load_per_class",
    "load_per_kind",
    "load_ratios",
    "load_warnings",
    "pareto_figure",
    "pareto_table",
    "ratio_figure",
    "ratio_summary",
    "ratio_table",
    "table_artefact",
    "verify",
]
