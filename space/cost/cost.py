"""Parameters, multiply-accumulates and activations by closed formula, without building a network.

Conventions (those of fvcore, which the literature reports as FLOPs): one multiply-accumulate is
one; a batch norm in evaluation costs 2 per element, a layer norm 5, global pooling 1 per input
element; activations, softmax, 3x3 average pooling, element-wise operations and biases cost
nothing. `macs` counts all of that, `macs_core` only convolutions and matrix products. The counts
are of the training form in evaluation mode, for one image.
"""

from typing import Literal

from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.cost.formulas import NetworkCost, cost_rows, sum_costs
from partialnas.space.cost.learned_blocks import blocks_with_sizes
from partialnas.space.cost.mac_budget import uniform_sizes


def cost(architecture: Architecture, input_spec: InputSpec) -> NetworkCost:
    """Return the cost of a network for one image.

    With learned ratios: of the network that spends their budget with one ratio for all layers, or
    without a budget of the one that learning starts from.

    Raises:
        UserError: the input is too small for the architecture's strides, or the budget of learned
            ratios is out of reach.
    """
    sizes = uniform_sizes(architecture, input_spec)
    blocks = blocks_with_sizes(architecture, sizes)
    counted = tuple(cost_rows(architecture, blocks, input_spec))
    whole = sum_costs(counted)
    return NetworkCost(whole.params, whole.macs, whole.macs_core, whole.activations, counted)


def formula_cost(
    architecture: Architecture, quantity: Literal["macs", "params"], input_spec: InputSpec
) -> float:
    """Return one quantity of a network's cost.

    Raises:
        UserError: the input is too small, or the budget is out of reach.
    """
    counted = cost(architecture, input_spec)
    return float(counted.macs if quantity == "macs" else counted.params)
