"""Networks that can be built: architectures, spaces of them, cost formulas, PyTorch modules.

Each name is imported on first use; importing this package does not import torch.
"""

from typing import TYPE_CHECKING

from partialnas.lazy import lazy_names

_MODULES = {
    "PRESETS": "partialnas.space.arch.presets",
    "Architecture": "partialnas.space.arch.architecture",
    "Block": "partialnas.space.arch.architecture",
    "Constraints": "partialnas.space.cost.constraints",
    "InputSpec": "partialnas.space.arch.input_spec",
    "LearnedRatio": "partialnas.space.arch.ratio",
    "MachineError": "partialnas.space.errors",
    "Network": "partialnas.space.nn.network",
    "NetworkCost": "partialnas.space.cost.formulas",
    "Operation": "partialnas.space.arch.operation_registry",
    "Plan": "partialnas.space.arch.plan",
    "Space": "partialnas.space.search_space.space",
    "SpaceSpec": "partialnas.space.axes.spec",
    "Stage": "partialnas.space.arch.architecture",
    "UserError": "partialnas.space.errors",
    "compute_cost": "partialnas.space.cost.cost",
    "export_onnx": "partialnas.space.deploy.onnx_export",
    "freeze": "partialnas.space.deploy.freeze",
    "load_released": "partialnas.space.deploy.released",
    "preset": "partialnas.space.arch.presets",
    "register_operation": "partialnas.space.arch.operation_registry",
}
__all__ = [*_MODULES]

if TYPE_CHECKING:
    from partialnas.space.arch.architecture import Architecture as Architecture
    from partialnas.space.arch.architecture import Block as Block
    from partialnas.space.arch.architecture import Stage as Stage
    from partialnas.space.arch.input_spec import InputSpec as InputSpec
    from partialnas.space.arch.operation_registry import Operation as Operation
    from partialnas.space.arch.operation_registry import register_operation as register_operation
    from partialnas.space.arch.plan import Plan as Plan
    from partialnas.space.arch.presets import PRESETS as PRESETS
    from partialnas.space.arch.presets import preset as preset
    from partialnas.space.arch.ratio import LearnedRatio as LearnedRatio
    from partialnas.space.axes.spec import SpaceSpec as SpaceSpec
    from partialnas.space.cost.constraints import Constraints as Constraints
    from partialnas.space.cost.cost import compute_cost as compute_cost
    from partialnas.space.cost.formulas import NetworkCost as NetworkCost
    from partialnas.space.deploy.freeze import freeze as freeze
    from partialnas.space.deploy.onnx_export import export_onnx as export_onnx
    from partialnas.space.deploy.released import load_released as load_released
    from partialnas.space.errors import MachineError as MachineError
    from partialnas.space.errors import UserError as UserError
    from partialnas.space.nn.network import Network as Network
    from partialnas.space.search_space.space import Space as Space
else:
    __getattr__, __dir__ = lazy_names(__name__, _MODULES)
