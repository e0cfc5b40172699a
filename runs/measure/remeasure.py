"""Networks of a finished study, timed anew on any device, without training."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.datasets.loaders import load_splits
from partialnas.runs.datasets.task import Task
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
from partialnas.runs.system.device import torch_device
from partialnas.runs.system.environment import environment
from partialnas.runs.system.files import weights_path
from partialnas.space.errors import UserError


@dataclass(frozen=True)
class TrainedNetwork:
    """What trials of a study have ended with.

    Attributes:
        label: what readers know it by.
        subject: the network: itself, or what its learned ratios froze to.
        keys: of the trials that ended with it.
        weights: where its speed depends on them: those of one of these trials.
    """

    label: str
    subject: Subject
    keys: tuple[str, ...]
    weights: Path | None = None

    @property
    def digest(self) -> str:
        """Of the network."""
        return subject_digest(self.subject)


@dataclass(frozen=True)
class TimedNetwork:
    """A network and how fast it is; no measurement where it cannot be timed so, and why.

    Attributes:
        network: that was timed.
        measurement: that stands for it, new or known before.
        fresh: whether it was taken now.
        problem: why there is none.
    """

    network: TrainedNetwork
    measurement: Measurement | None = None
    fresh: bool = False
    problem: str = ""


def trained_networks(
    ledger: Ledger, digests: Collection[str], arms: Collection[str], condition: str
) -> list[TrainedNetwork]:
    """The networks that the trials of a study have ended with, each once, in their order.

    Args:
        ledger: of the study.
        digests: of the networks that were trained.
        arms: all of whose networks are wanted, if they have one for each seed.
        condition: of the study that they were trained under; empty where it has none.
    """
    proposals = {row.number: row for row in ledger.proposals()}
    found: dict[str, TrainedNetwork] = {}
    for row in ledger.trials():
        proposal = proposals[row.proposal]
        own = stage_of(proposal) == "" and condition_of(proposal) == condition
        wanted = row.digest in digests or proposal.arm in arms
        if not (own and wanted and row.state == "done"):
            continue
        network = _ended(ledger, row, proposal)
        known = found.setdefault(network.digest, network)
        if known is not network:
            keys = (*known.keys, *network.keys)
            found[network.digest] = TrainedNetwork(known.label, known.subject, keys, known.weights)
    return [*found.values()]


def _ended(ledger: Ledger, row: TrialRow, proposal: ProposalRow) -> TrainedNetwork:
    last = ledger.last_ratios(row.key)
    weights = None
    if last is not None and last.frozen is None:
        weights = weights_path(ledger.path.parent, row.key)
    label = proposal.arm or f"#{row.number}"
    return TrainedNetwork(
        label, final_subject(parse_subject(proposal.subject), last), (row.key,), weights
    )


def remeasure(
    ledger: Ledger,
    networks: Sequence[TrainedNetwork],
    task: Task,
    protocol: Protocol,
    reference: Subject,
    *,
    again: bool = False,
) -> Iterator[TimedNetwork]:
    """Times networks by a protocol and writes each measurement down when it is taken.

    What this machine has measured so before is not timed again, unless `again`. A noisy or tainted
    measurement is tried again after the others (`protocol.retries`); the better one stands.

    Args:
        ledger: of their study, open for writing.
        networks: to be timed.
        task: gives the images.
        protocol: how they are timed.
        reference: what they are timed in turns with.
        again: time all of them, whatever is known.

    Raises:
        UserError: the reference cannot be timed so.
        MachineError: the device is not there or out of memory, or the disk fails.
    """
    way, here = TimingSetup.from_protocol(protocol), this_machine(protocol)
    known = group_by_digest([] if again else _known(ledger, task, way, here))
    marked = []
    for network in networks:
        stands = best_measurement(known.get(network.digest, []), way, here)
        if stands is not None:
            yield TimedNetwork(network, stands)
            continue
        timed = _timed(ledger, network, task, protocol, reference)
        if timed.measurement is not None and timed.measurement.num_marks and protocol.retries:
            marked.append(timed)
        else:
            yield timed
    for timed in marked:
        yield _better(timed, ledger, task, protocol, reference)


def this_machine(protocol: Protocol) -> Machine:
    """The device of a protocol, and the processor beside it.

    Raises:
        MachineError: there is no such device.
    """
    import torch

    device = torch_device(protocol.device)
    name = "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)
    return name, str(environment()["processor"])


def _known(ledger: Ledger, task: Task, way: TimingSetup, here: Machine) -> list[Measurement]:
    size = (task.resolution, task.channels)
    return [
        each
        for each in ledger.measurements()
        if (each.resolution, each.in_chans) == size and way.matches(each) and machine(each) == here
    ]


def _better(
    timed: TimedNetwork, ledger: Ledger, task: Task, protocol: Protocol, reference: Subject
) -> TimedNetwork:
    """A marked measurement, or the better one of the further tries."""
    for _ in range(protocol.retries):
        again = _timed(ledger, timed.network, task, protocol, reference)
        assert timed.measurement is not None
        if again.measurement and again.measurement.num_marks <= timed.measurement.num_marks:
            timed = again
        if timed.measurement is not None and not timed.measurement.num_marks:
            break
    return timed


def _timed(
    ledger: Ledger, network: TrainedNetwork, task: Task, protocol: Protocol, reference: Subject
) -> TimedNetwork:
    try:
        trained = _trained(network, task)
        measurement = measure(network.subject, task, protocol, reference, trained)
    except UserError as error:  # of this network alone, if the reference can be timed
        return TimedNetwork(network, problem=str(error))
    ledger.add_measurement(measurement)
    return TimedNetwork(network, measurement, fresh=True)


def _trained(network: TrainedNetwork, task: Task) -> TimingInputs | None:
    """Weights and images of a network whose speed depends on them."""
    if network.weights is None:
        return None
    if not network.weights.is_file():
        raise UserError(
            f"{network.label}: its speed depends on its weights, which were not kept "
            "(recipe.keep_weights: all)"
        )
    return TimingInputs(load_splits(task), network.weights)
