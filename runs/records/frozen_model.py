"""The static networks that learned ratios end with, from what records tell of them; no torch."""

from collections.abc import Mapping

from partialnas.runs.records.record import RatioEpoch
from partialnas.runs.records.subject import Subject
from partialnas.space.arch.architecture import Architecture, Boundary
from partialnas.space.cost.learned_blocks import BlockIndex, PartSizes
from partialnas.space.errors import UserError


def frozen_subject(architecture: Architecture, channels: Mapping[str, float]) -> Architecture:
    """The static architecture with these channels for each learned part; see `frozen_sizes`."""
    return architecture.frozen(frozen_sizes(architecture, channels))


def final_subject(subject: Subject, last: RatioEpoch | None) -> Subject:
    """What a trial's training has ended with: the static network where its ratios are frozen.

    Args:
        subject: that was trained.
        last: its learned ratios after its last epoch, where it has any.
    """
    if isinstance(subject, Architecture) and last is not None and last.frozen is not None:
        return frozen_subject(subject, last.channels)
    return subject


def frozen_sizes(
    architecture: Architecture, channels: Mapping[str, float]
) -> dict[BlockIndex, PartSizes]:
    """The channels of every part, for each block with learned ratios.

    Parts that do not learn keep their channels, and the last part of a block takes what is left.

    Args:
        architecture: with learned ratios.
        channels: of each learned part by the name of its boundary, as in
            `RatioEpoch.channels` once the ratios are fixed.

    Raises:
        UserError: ratios that depend on the image, a boundary without channels, a number that is
            not whole or does not fit into the width.
    """
    if architecture.learned is not None and architecture.learned.per == "input":
        raise UserError(
            "its ratios depend on the image, so that no static network stands for it; learn them "
            "per layer to freeze them"
        )
    sizes = {
        boundary[:2]: [
            part.channels for part in architecture.realized[boundary.stage][boundary.block].parts
        ]
        for boundary in architecture.boundaries
    }
    for boundary in architecture.boundaries:
        sizes[boundary[:2]][boundary.part] = _whole(boundary, channels)
    for (stage, _), own in sizes.items():
        own[-1] = architecture.widths[stage] - sum(own[:-1])
    for (stage, block), own in sizes.items():
        if min(own) < 0:
            raise UserError(
                f"stage {stage + 1}, block {block + 1}: expected parts that fill its "
                f"{architecture.widths[stage]} channels, got {' + '.join(map(str, own))}"
            )
    return {place: tuple(own) for place, own in sizes.items()}


def _whole(boundary: Boundary, channels: Mapping[str, float]) -> int:
    size = channels.get(boundary.name)
    if size is None:
        raise UserError(f"{boundary.name}: its channels are missing")
    if size != int(size):
        raise UserError(
            f"{boundary.name}: expected a whole number of channels, got {size:g}; its ratio was "
            "still being learned"
        )
    return int(size)
