"""Records in, conclusions out: tables, fronts, figures. Takes neither torch nor ray.

from partialnas.analysis import export, front, load, pareto_figure

trials = load("results/quickstart")
front(trials, {"val_nll": "min", "throughput_img_s": "max"})
pareto_figure(trials, "front.pdf", x="throughput_img_s", y="val_accuracy")
export(trials, "trials.csv")
"""

from partialnas.analysis.export import export
from partialnas.analysis.front import front, hypervolume
from partialnas.analysis.load import load
from partialnas.analysis.pareto import ParetoFigure, pareto_figure, pareto_table
from partialnas.analysis.quantities import QUANTITIES, Quantity

__all__ = [
    "QUANTITIES",
    "ParetoFigure",
    "Quantity",
    "export",
    "front",
    "hypervolume",
    "load",
    "pareto_figure",
    "pareto_table",
]
