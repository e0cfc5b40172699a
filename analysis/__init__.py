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

from partialnas.analysis.audit_figure import AuditFigure, audit_figure
from partialnas.analysis.effects import Effects, effects
from partialnas.analysis.effects_figure import EffectsFigure, effects_figure
from partialnas.analysis.export import export
from partialnas.analysis.front import front, hypervolume
from partialnas.analysis.load import load
from partialnas.analysis.pareto import ParetoFigure, ParetoOptions, pareto_figure
from partialnas.analysis.pareto_table import pareto_table
from partialnas.analysis.quantities import QUANTITIES, Quantity
from partialnas.analysis.ratio_agreement import agreement, convergence
from partialnas.analysis.ratio_figure import RatioFigure, ratio_figure
from partialnas.analysis.ratio_summary import ratio_summary
from partialnas.analysis.ratios import (
    load_distribution,
    load_per_class,
    load_per_kind,
    load_ratios,
    load_warnings,
    ratio_table,
)
from partialnas.analysis.tables import table_artefact
from partialnas.analysis.verify import Verdict, verify

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
