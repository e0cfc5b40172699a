"""Verification of an exported network: its outputs, its cost and its speed."""

from typing import Literal

import torch

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.datasets.augment import DeviceSplit
from partialnas.runs.datasets.loaders import Splits
from partialnas.runs.export.trained_trial import TrainedTrial
from partialnas.runs.measure.measure import measure
from partialnas.runs.measure.prepared_model import TimingInputs
from partialnas.runs.records.measurement import Measurement
from partialnas.space.cost.cost import compute_cost
from partialnas.space.deploy.onnx_export import Dynamic
from partialnas.space.errors import MachineError
from partialnas.space.nn.network import Network
from partialnas.space.nn.op_counter import count_ops
from partialnas.space.values import Value

MAX_LOGIT_DIFFERENCE = 1e-5
"""Largest difference of logits that rounding explains, as a share of the largest logit."""

BATCH_SIZE = 250
"""Validation images per forward pass."""


class OutputCheck(Value):
    """Comparison of the outputs of the exported and the trained network.

    Attributes:
        images: number of compared images: the task's whole validation split.
        difference: largest difference of logits, as a share of the largest logit.
        at_most: limit of `difference`.
        val_accuracy: accuracy of the exported network in percent.
        recorded_val_accuracy: final accuracy of the trial in percent.
    """

    images: int
    difference: float
    at_most: float
    val_accuracy: float
    recorded_val_accuracy: float | None


class CostCheck(Value):
    """Cost of the network by three sources, which agree.

    Attributes:
        macs: multiply-accumulates for one image by closed formula.
        macs_counted: multiply-accumulates of the built network by fvcore.
        macs_recorded: multiply-accumulates in the trial's record.
        params: parameters by closed formula.
        params_counted: parameters of the built network.
        params_recorded: parameters in the trial's record.
    """

    macs: int
    macs_counted: int
    macs_recorded: int | None
    params: int
    params_counted: int
    params_recorded: int | None


class OnnxCheck(Value):
    """Comparison of the outputs of the ONNX file and the network.

    Attributes:
        images: number of compared images: the task's whole validation split.
        difference: largest difference of logits, as a share of the largest logit.
        at_most: limit of `difference`.
        opset: version of the operators in the file.
        runtime: version of onnxruntime.
        dynamic: free sizes of the file's input; with `all`, images of another size were compared
            too.
    """

    images: int
    difference: float
    at_most: float
    opset: int
    runtime: str
    dynamic: Dynamic = "batch"


class ExportVerification(Value):
    """Checks of an exported network, with time and environment.

    Attributes:
        made_by: marks a folder as an export.
        trial: the trial, such as `results/mine:7`.
        key: key of the trial.
        trained_digest: digest of the trained network.
        digest: digest of the exported network, which differs if ratios were learned.
        weights_sha256: hash of the weights file.
        outputs: comparison of outputs.
        cost: comparison of costs.
        speed: speed of the trained network in deploy form, relative to the network built from
            `architecture.json`; these are the same network if ratios were static.
        onnx: comparison with the ONNX file, or None if none was written.
        environment: machine, library versions and code.
        made: time of the export, ISO 8601 in UTC.
    """

    made_by: Literal["partialnas export-model"] = "partialnas export-model"
    trial: str
    key: str
    trained_digest: str
    digest: str
    weights_sha256: str
    outputs: OutputCheck
    cost: CostCheck
    speed: Measurement
    onnx: OnnxCheck | None = None
    environment: dict[str, str | int]
    made: str


@torch.inference_mode()
def verify_outputs(
    trial: TrainedTrial, trained: Network, exported: Network, splits: Splits
) -> OutputCheck:
    """Compare the logits of two networks on all validation images on the CPU.

    Raises:
        MachineError: they differ by more than rounding.
    """
    pool = DeviceSplit(splits.val_x, splits.val_y, splits, 0, torch.device("cpu"))
    trained.eval()
    exported.eval()
    deviation, largest, correct = torch.zeros(()), torch.zeros(()), 0
    for x, y in pool.sequential_batches(BATCH_SIZE):
        expected, logits = trained(x), exported(x)
        # unlike `max`, `maximum` propagates NaN
        deviation = torch.maximum(deviation, (expected - logits).abs().max())
        largest = torch.maximum(largest, expected.abs().max())
        correct += int((logits.argmax(1) == y).sum())
    difference = float(deviation / largest)
    if not difference <= MAX_LOGIT_DIFFERENCE:
        raise MachineError(
            f"{trial.name}: the outputs of the exported and the trained network differ: logits "
            f"differ by {difference:.2g} of the largest logit on {len(pool)} validation images, "
            f"but rounding explains at most {MAX_LOGIT_DIFFERENCE:g}. Nothing was written"
        )
    return OutputCheck(
        images=len(pool),
        difference=difference,
        at_most=MAX_LOGIT_DIFFERENCE,
        val_accuracy=100 * correct / len(pool),
        recorded_val_accuracy=trial.row.metrics.get("val_accuracy"),
    )


def verify_cost(trial: TrainedTrial, exported: Network) -> CostCheck:
    """Compare the cost by formula with fvcore's counts and the trial's record.

    Raises:
        MachineError: they differ.
    """
    task = trial.task
    formula = compute_cost(trial.architecture, task.input_spec)
    counted = count_ops(exported, task.input_spec)
    recorded = trial.row.cost
    check = CostCheck(
        macs=formula.macs,
        macs_counted=counted.macs_raw,
        macs_recorded=recorded.get("macs"),
        params=formula.params,
        params_counted=counted.params,
        params_recorded=recorded.get("params"),
    )
    for name in ("macs", "params"):
        counts = [getattr(check, f"{name}{source}") for source in ("", "_counted", "_recorded")]
        if len(set(counts)) > 1:
            text = "formula {}, counted {}, recorded {}".format(*counts)
            raise MachineError(f"{trial.name}: {name} differ: {text}. Nothing was written")
    return check


def time_exported(trial: TrainedTrial, splits: Splits, protocol: Protocol) -> Measurement:
    """Time the trained network, interleaved with the static network of the same ratios.

    Both are in deploy form. A network with static ratios is its own reference, so that its relative
    throughput is 1.0.

    Raises:
        UserError: the device is invalid.
        MachineError: the device is unavailable or out of memory.
    """
    protocol = protocol.model_copy(update={"form": "deploy"})
    trained = TimingInputs(splits, trial.weights)
    return measure(trial.subject, trial.task, protocol, trial.architecture, trained)
