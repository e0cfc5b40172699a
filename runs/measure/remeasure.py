"""Measurement of a finished study's networks on any device, without training."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.datasets.loaders import load_splits
from partialnas.runs.datasets.task import Task
from partialnas.runs.devices.device import torch_device
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.rows import ProposalRow, TrialRow
from partialnas.runs.ledger.study_meta import condition_of, stage_of
from partialnas.runs.measure.measure import measure
from partialnas.runs.measure.prepared_model import TimingInputs
from partialnas.runs.records.frozen_model import final_subject
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.subject import Subject, parse_subject, subject_digest
from partialnas.runs.records.timing_choice import (
    Machine,
    TimingSetup,
    best_measurement,
    group_by_digest,
    machine,
)
from partialnas.runs.system.environment import environment
from partialnas.runs.system.files import TrialWeights, weights_path
from partialnas.space.errors import UserError


@dataclass(frozen=True)
class TrainedNetwork:
    """The final network of one or more trials of a study.

    Attributes:
        label: name for readers: the arm, or the trial as `#7`.
        subject: the network, with learned ratios frozen.
        keys: keys of the trials that ended with it.
        weights: weights of one of these trials, or None if the speed of the network does not
            depend on them.
    """

    label: str
    subject: Subject
    keys: tuple[str, ...]
    weights: TrialWeights | None = None

    @property
    def digest(self) -> str:
        """Digest of the network."""
        return subject_digest(self.subject)


@dataclass(frozen=True)
class TimedNetwork:
    """A network and its measurement, or the reason why there is none.

    Attributes:
        network: the network.
        measurement: its measurement, new or from the ledger; None if it cannot be measured.
        fresh: whether the measurement is new.
        problem: reason why there is no measurement, or empty.
    """

    network: TrainedNetwork
    measurement: Measurement | None = None
    fresh: bool = False
    problem: str = ""


def trained_networks(
    ledger: Ledger, digests: Collection[str], arms: Collection[str], condition: str
) -> list[TrainedNetwork]:
    """Return the distinct final networks of a study's finished trials, in order of the trials.

    Args:
        ledger: ledger of the study.
        digests: digests of trained networks to include.
        arms: arms to include; an arm with learned ratios has one network per seed.
        condition: condition of the study, or empty if it has none.
    """
    proposals = {row.number: row for row in ledger.proposals()}
    networks: dict[str, TrainedNetwork] = {}
    for row in ledger.trials():
        proposal = proposals[row.proposal]
        in_study = stage_of(proposal) == "" and condition_of(proposal) == condition
        is_included = row.digest in digests or proposal.arm in arms
        if not (in_study and is_included and row.state == "done"):
            continue
        network = _final_network(ledger, row, proposal)
        first = networks.setdefault(network.digest, network)
        if first is not network:
            networks[network.digest] = replace(first, keys=first.keys + network.keys)
    return [*networks.values()]


def _final_network(ledger: Ledger, row: TrialRow, proposal: ProposalRow) -> TrainedNetwork:
    ratios = ledger.last_ratios(row.key)
    weights = None
    if ratios is not None and ratios.frozen is None:
        path = weights_path(ledger.path.parent, row.key)
        weights = TrialWeights(path, row.key, row.metrics.get("val_nll"), row.device)
    label = proposal.arm or f"#{row.number}"
    subject = final_subject(parse_subject(proposal.subject), ratios)
    return TrainedNetwork(label, subject, (row.key,), weights)


def remeasure(
    ledger: Ledger,
    networks: Sequence[TrainedNetwork],
    task: Task,
    protocol: Protocol,
    reference: Subject,
    *,
    again: bool = False,
) -> Iterator[TimedNetwork]:
    """Measure networks by a protocol, and add each measurement to the ledger at once.

    A network with a measurement of this machine by this protocol is not measured again, unless
    `again`. Noisy or tainted measurements are repeated at the end, up to `protocol.retries` times;
    the better one counts.

    Args:
        ledger: ledger of the study, open for writing.
        networks: networks to measure.
        task: gives the shape of the images.
        protocol: measurement settings.
        reference: network that they are interleaved with.
        again: whether to ignore measurements in the ledger.

    Raises:
        UserError: the reference cannot be measured by the protocol.
        MachineError: the device is unavailable or out of memory, or the disk fails.
    """
    setup, this = TimingSetup.from_protocol(protocol), this_machine(protocol)
    earlier = group_by_digest([] if again else _earlier(ledger, task, setup, this))
    marked = []
    for network in networks:
        best = best_measurement(earlier.get(network.digest, []), setup, this)
        if best is not None:
            yield TimedNetwork(network, best)
            continue
        timed = _measure(ledger, network, task, protocol, reference)
        if timed.measurement is not None and timed.measurement.num_marks and protocol.retries:
            marked.append(timed)
        else:
            yield timed
    for timed in marked:
        yield _retry(timed, ledger, task, protocol, reference)


def this_machine(protocol: Protocol) -> Machine:
    """Return the model of the protocol's device, and the processor of this machine.

    Raises:
        MachineError: the device is unavailable.
    """
    import torch

    device = torch_device(protocol.device)
    name = "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)
    return name, str(environment()["processor"])


def _earlier(ledger: Ledger, task: Task, setup: TimingSetup, this: Machine) -> list[Measurement]:
    """Return measurements of this machine in the ledger, by the same setup and image size."""
    size = (task.resolution, task.channels)
    return [
        m
        for m in ledger.measurements()
        if (m.resolution, m.in_chans) == size and setup.matches(m) and machine(m) == this
    ]


def _retry(
    timed: TimedNetwork, ledger: Ledger, task: Task, protocol: Protocol, reference: Subject
) -> TimedNetwork:
    """Repeat a marked measurement, and return the one with the fewest marks."""
    for _ in range(protocol.retries):
        new = _measure(ledger, timed.network, task, protocol, reference)
        assert timed.measurement is not None
        if new.measurement and new.measurement.num_marks <= timed.measurement.num_marks:
            timed = new
        if timed.measurement is not None and not timed.measurement.num_marks:
            break
    return timed


def _measure(
    ledger: Ledger, network: TrainedNetwork, task: Task, protocol: Protocol, reference: Subject
) -> TimedNetwork:
    try:
        inputs = _timing_inputs(network, task)
        measurement = measure(network.subject, task, protocol, reference, inputs)
    except UserError as error:  # concerns this network alone if the reference can be measured
        return TimedNetwork(network, problem=str(error))
    ledger.add_measurement(measurement)
    return TimedNetwork(network, measurement, fresh=True)


def _timing_inputs(network: TrainedNetwork, task: Task) -> TimingInputs | None:
    """Return weights and images of a network with a speed that depends on them."""
    if network.weights is None:
        return None
    if not network.weights.path.is_file():
        raise UserError(
            f"{network.label}: its speed depends on its weights, which were not kept; run a study "
            "with recipe.keep_weights: all"
        )
    return TimingInputs(load_splits(task), network.weights)
