"""Static networks that learned ratios froze to, from their records."""

from collections.abc import Mapping

from partialnas.runs.records.record import RatioEpoch
from partialnas.runs.records.subject import Subject
from partialnas.space.arch.architecture import Architecture, Boundary
from partialnas.space.cost.learned_blocks import BlockIndex, PartSizes
from partialnas.space.errors import UserError


def frozen_subject(architecture: Architecture, channels: Mapping[str, float]) -> Architecture:
    """Return the static architecture with these channels; see `frozen_sizes`."""
    return architecture.frozen(frozen_sizes(architecture, channels))


def final_subject(subject: Subject, last: RatioEpoch | None) -> Subject:
    """Return the network at the end of training: the static one if its ratios are frozen.

    Args:
        subject: trained subject.
        last: learned ratios after the last epoch, or None if it has none.
    """
    if isinstance(subject, Architecture) and last is not None and last.frozen is not None:
        return frozen_subject(subject, last.channels)
    return subject


def frozen_sizes(
    architecture: Architecture, channels: Mapping[str, float]
) -> dict[BlockIndex, PartSizes]:
    """Return the channels of every part of each block with learned ratios.

    Parts without a learned ratio keep their channels; the last part of a block gets the rest.

    Args:
        architecture: architecture with learned ratios.
        channels: channels of each learned part by the name of its boundary, as in
            `RatioEpoch.channels` of frozen ratios.

    Raises:
        UserError: the ratios depend on the image, a boundary is missing, or a number of channels is
            not an integer or exceeds the width.
    """
    if architecture.learned is not None and architecture.learned.per == "input":
        raise UserError(
            "its ratios depend on the image, so that no static network is equivalent; learn the "
            "ratios per layer to freeze them"
        )
    sizes: dict[BlockIndex, list[int]] = {}
    for boundary in architecture.boundaries:
        parts = architecture.realized[boundary.stage][boundary.block].parts
        start = [part.channels for part in parts]
        sizes.setdefault(boundary[:2], start)[boundary.part] = _integer_channels(boundary, channels)
    for (stage, block), split in sizes.items():
        width = architecture.widths[stage]
        split[-1] = width - sum(split[:-1])
        if min(split) < 0:
            raise UserError(
                f"stage {stage + 1}, block {block + 1}: expected parts that add up to its "
                f"{width} channels, got {' + '.join(map(str, split))}"
            )
    return {index: tuple(split) for index, split in sizes.items()}


def _integer_channels(boundary: Boundary, channels: Mapping[str, float]) -> int:
    size = channels.get(boundary.name)
    if size is None:
        raise UserError(f"{boundary.name}: the number of its channels is missing")
    if size != int(size):
        raise UserError(
            f"{boundary.name}: expected an integer number of channels, got {size:g}; the ratio is "
            "still being learned"
        )
    return int(size)
