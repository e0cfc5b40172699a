"""What is proved of a network before it is given away: its outputs, its cost, its speed."""

from typing import Literal

import torch

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.datasets.augment import DeviceSplit
from partialnas.runs.datasets.loaders import Splits
from partialnas.runs.export.trained_trial import TrainedTrial
from partialnas.runs.measure.measure import measure
from partialnas.runs.measure.prepared_model import TimingInputs
from partialnas.runs.records.measurement import Measurement
from partialnas.space.cost.cost import cost
from partialnas.space.errors import MachineError
from partialnas.space.nn.network import Network
from partialnas.space.nn.op_counter import count_ops
from partialnas.space.values import Value

LARGEST_DIFFERENCE = 1e-5
"""Of two logits over the largest one: what rounding explains."""

_BATCH = 250


class OutputCheck(Value):
    """That the network which is exported computes what the trained one does.

    Attributes:
        images: of the task's validation split, all of them, in evaluation mode.
        difference: the largest between two logits, over the largest logit.
        at_most: what `difference` may be.
        val_accuracy: of the exported network, percent.
        recorded_val_accuracy: that the trial ended with, percent.
    """

    images: int
    difference: float
    at_most: float
    val_accuracy: float
    recorded_val_accuracy: float | None


class CostCheck(Value):
    """That the network costs what was predicted: three figures that are the same.

    Attributes:
        macs: multiply-accumulates for one image, by closed formula.
        macs_counted: by fvcore, of the network as it is built.
        macs_recorded: of the trial's record.
        params: by closed formula.
        params_counted: of the network as it is built.
        params_recorded: of the trial's record.
    """

    macs: int
    macs_counted: int
    macs_recorded: int | None
    params: int
    params_counted: int
    params_recorded: int | None


class OnnxCheck(Value):
    """That the ONNX file computes what the network does.

    Attributes:
        images: of the task's validation split, all of them.
        difference: the largest between two logits, over the largest logit.
        at_most: what `difference` may be.
        opset: version of the operators in the file.
        runtime: version of onnxruntime, which ran it.
    """

    images: int
    difference: float
    at_most: float
    opset: int
    runtime: str


class ExportVerification(Value):
    """What was proved of an exported network, where and when.

    Attributes:
        made_by: marks a folder as an export.
        trial: that it comes from, as `results/mine:7`.
        key: of the trial.
        trained_digest: of the network that was trained.
        digest: of the network that is exported; another one where ratios were learned.
        weights_sha256: of the file of its weights.
        outputs: see `OutputCheck`.
        cost: see `CostCheck`.
        speed: of the trained network in its deploy form, beside the network that is built from
            `architecture.json` by hand; where ratios were static, these are one and the same.
        onnx: see `OnnxCheck`; None where no ONNX file was written.
        environment: machine, library versions and code.
        made: when, ISO 8601 in UTC.
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
    """Compares the logits of two networks on all validation images, on the CPU.

    Raises:
        MachineError: they differ by more than rounding.
    """
    pool = DeviceSplit(splits.val_x, splits.val_y, splits, 0, torch.device("cpu"))
    trained.eval()
    exported.eval()
    apart, largest, correct = torch.zeros(()), torch.zeros(()), 0
    for x, y in pool.sequential_batches(_BATCH):
        logits, others = trained(x), exported(x)
        # maximum, unlike max, hands a NaN on
        apart = torch.maximum(apart, (logits - others).abs().max())
        largest = torch.maximum(largest, logits.abs().max())
        correct += int((others.argmax(1) == y).sum())
    difference = float(apart / largest)
    if not difference <= LARGEST_DIFFERENCE:
        raise MachineError(
            f"{trial.name}: the network to be exported does not compute what was trained: logits "
            f"differ by {difference:.2g} of the largest one on {len(pool)} validation images, at "
            f"most {LARGEST_DIFFERENCE:g} is rounding. Nothing was written"
        )
    return OutputCheck(
        images=len(pool),
        difference=difference,
        at_most=LARGEST_DIFFERENCE,
        val_accuracy=100 * correct / len(pool),
        recorded_val_accuracy=trial.row.metrics.get("val_accuracy"),
    )


def verify_cost(trial: TrainedTrial, exported: Network) -> CostCheck:
    """Compares the predicted cost with what fvcore counts and with the trial's record.

    Raises:
        MachineError: they are not equal.
    """
    task = trial.task
    formula = cost(trial.architecture, task.input_spec)
    counted = count_ops(exported, task.input_spec)
    recorded = trial.row.cost
    proof = CostCheck(
        macs=formula.macs,
        macs_counted=counted.macs_raw,
        macs_recorded=recorded.get("macs"),
        params=formula.params,
        params_counted=counted.params,
        params_recorded=recorded.get("params"),
    )
    for what in ("macs", "params"):
        figures = [getattr(proof, f"{what}{by}") for by in ("", "_counted", "_recorded")]
        if len(set(figures)) > 1:
            told = "formula {}, counted {}, recorded {}".format(*figures)
            raise MachineError(f"{trial.name}: {what} differ: {told}. Nothing was written")
    return proof


def time_exported(trial: TrainedTrial, splits: Splits, protocol: Protocol) -> Measurement:
    """Times the trained network in turns with the static one that its ratios describe.

    Both are in deploy form. What is measured of a network with static ratios is that network
    beside itself, so that its relative throughput is 1 without a race.

    Raises:
        UserError: there is no such device.
        MachineError: the device is missing, or out of memory.
    """
    protocol = protocol.model_copy(update={"form": "deploy"})
    trained = TimingInputs(splits, trial.weights)
    return measure(trial.subject, trial.task, protocol, trial.architecture, trained)
