"""Cost of a network by closed formula: parameters, multiply-accumulates, activations.

Conventions (those of fvcore, which the literature reports as FLOPs): a multiply-accumulate counts
1; a batch norm in evaluation mode counts 2 per element, a layer norm 5, global pooling 1 per input
element; activation functions, softmax, 3x3 average pooling, element-wise operations and biases
count 0. `macs` includes all of these, `macs_core` only convolutions and matrix products. All counts
are for one image and the training form in evaluation mode.
"""

from typing import Literal

from partialnas.space.arch.architecture import Architecture, RealizedBlock
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.cost.formulas import NetworkCost, cost_rows, sum_costs
from partialnas.space.cost.learned_blocks import blocks_with_sizes
from partialnas.space.cost.mac_budget import uniform_sizes


def compute_cost(architecture: Architecture, input_spec: InputSpec) -> NetworkCost:
    """Return the cost of a network for one image.

    Learned ratios are counted with one ratio for all layers that spends the budget, or with their
    starting ratio if there is no budget.

    Raises:
        UserError: The input is too small for the architecture's strides, or the budget of learned
            ratios is out of reach.
    """
    sizes = uniform_sizes(architecture, input_spec)
    blocks = blocks_with_sizes(architecture, sizes)
    counted = tuple(cost_rows(architecture, blocks, input_spec))
    whole = sum_costs(counted)
    return NetworkCost(whole.params, whole.macs, whole.macs_core, whole.activations, counted)


def realized_blocks(architecture: Architecture, input_spec: InputSpec) -> dict[str, RealizedBlock]:
    """Return the blocks that `compute_cost` counts, by the name of their row.

    Raises:
        UserError: See `compute_cost`.
    """
    stages = blocks_with_sizes(architecture, uniform_sizes(architecture, input_spec))
    return {
        f"stage {stage}, block {index}": block
        for stage, blocks in enumerate(stages, start=1)
        for index, block in enumerate(blocks, start=1)
    }


def formula_cost(
    architecture: Architecture, quantity: Literal["macs", "params"], input_spec: InputSpec
) -> float:
    """Return one quantity of a network's cost.

    Raises:
        UserError: See `compute_cost`.
    """
    counted = compute_cost(architecture, input_spec)
    return float(counted.macs if quantity == "macs" else counted.params)
