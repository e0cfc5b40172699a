"""Find the tensors of a released network in a checkpoint file or in nested dictionaries."""

import re
from argparse import Namespace
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from partialnas.space.errors import UserError

STEM = "patch_embed.proj.weight"
"""The tensor that every checkpoint of the released code has, and those of partialnas do not."""

_DPCONV = re.compile(r"\.spatial_mixing\.(gate|conv\.weight)$")


class ReleasedTensors(dict[str, Tensor]):
    """Tensors by the names of the released code, without prefixes.

    Attributes:
        prefix: what the names begin with in the checkpoint, such as `module.`.
    """

    def __init__(self, tensors: Mapping[str, Tensor], prefix: str) -> None:
        super().__init__(tensors)
        self.prefix = prefix

    def __missing__(self, name: str) -> Tensor:
        raise UserError(
            f"not a checkpoint of a released network: it has no tensor {self.prefix}{name}"
        )

    @property
    def for_detection(self) -> bool:
        """Whether the network is a detector's, with norms for the outputs of the stages."""
        return any(re.match(r"norm\d\.", name) for name in self)

    def count(self, pattern: str) -> int:
        """Return the largest number that the group of the pattern matches, plus 1."""
        numbers = [int(match[1]) for name in self if (match := re.match(pattern, name))]
        return max(numbers, default=-1) + 1


class _Location(NamedTuple):
    """Where a checkpoint has the tensors of a network."""

    keys: tuple[str, ...]
    """Keys of the nested dictionaries."""
    prefix: str
    """What the names in the innermost dictionary begin with."""
    entries: Mapping[str, Any]

    def __str__(self) -> str:
        return " / ".join((*self.keys, f"{self.prefix}…"))

    @property
    def averaged(self) -> bool:
        """Whether they are averages of the weights over the training."""
        return any("ema" in re.split(r"[._]", name) for name in (*self.keys, self.prefix))


def has_released_tensors(checkpoint: Any) -> bool:
    """Return whether a dictionary has, at any depth, the tensors of a released network."""
    return next(_locations(checkpoint), None) is not None


def read_released(checkpoint: Mapping[str, Any] | str | PathLike[str]) -> ReleasedTensors:
    """Return the tensors of the only network in a checkpoint, or of its averaged weights.

    Args:
        checkpoint: path of a file of `torch.save` or safetensors, or its contents. The tensors may
            lie in nested dictionaries, and their names may begin with any prefix.

    Raises:
        UserError: The file cannot be read, or the checkpoint does not have the tensors of exactly
            one network, or they have no values.
    """
    if isinstance(checkpoint, str | PathLike):
        path = Path(checkpoint)
        try:
            return _only_network(_read(path))
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
    return _only_network(checkpoint)


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # The arguments of a training script are often stored beside the weights.
        with torch.serialization.safe_globals([Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror or error}") from None
    except (UnpicklingError, RuntimeError, EOFError, SafetensorError):
        raise UserError(_why_unreadable(path)) from None


def _why_unreadable(path: Path) -> str:
    try:
        unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (ValueError, RuntimeError):
        unsafe = []
    if not unsafe:
        return "not a checkpoint, or damaged"
    return (
        f"holds objects that could run code when they are loaded ({', '.join(unsafe)}). If you "
        "trust the file, load it with torch.load and weights_only=False, and pass its tensors"
    )


def _only_network(checkpoint: Any) -> ReleasedTensors:
    if isinstance(checkpoint, nn.Module):
        raise UserError("expected the tensors of a network, got a module: pass its state_dict()")
    locations = list(_locations(checkpoint))
    if len(locations) > 1:
        locations = [location for location in locations if location.averaged] or locations
    if not locations:
        contents = _contents(checkpoint)
        raise UserError(
            f"not a checkpoint of a released network: it has no tensor {STEM}; {contents}"
        )
    if len(locations) > 1:
        listed = "; ".join(map(str, locations))
        raise UserError(f"the checkpoint has several networks; pass the tensors of one: {listed}")
    return _tensors(locations[0])


def _locations(value: Any, keys: tuple[str, ...] = ()) -> Iterator[_Location]:
    if not isinstance(value, Mapping):
        return
    for name, entry in value.items():
        if isinstance(entry, Mapping):
            yield from _locations(entry, (*keys, str(name)))
        elif isinstance(name, str) and f".{name}".endswith(f".{STEM}"):
            yield _Location(keys, name.removesuffix(STEM), value)


def _contents(checkpoint: Any) -> str:
    if not isinstance(checkpoint, Mapping):
        return f"it is of type {type(checkpoint).__name__}"
    names = [str(name) for name in checkpoint]
    if "stem.conv.weight" in names:
        return "these are weights of partialnas: pass them to Network.load_state_dict"
    more = ", …" if len(names) > 3 else ""
    return f"it has {', '.join(names[:3])}{more}" if names else "it is empty"


def _tensors(location: _Location) -> ReleasedTensors:
    """Return the checked tensors of a network by their names without prefix."""
    prefix = location.prefix
    entries = {name: entry for name, entry in location.entries.items() if name.startswith(prefix)}
    for name, entry in entries.items():
        if not isinstance(entry, Tensor):
            hint = "; convert it with torch.from_numpy" * (type(entry).__name__ == "ndarray")
            raise UserError(f"{name} is not a tensor but of type {type(entry).__name__}{hint}")
        if entry.is_meta:
            raise UserError(f"{name} has no values: it is on the meta device")
        if _DPCONV.search(name):
            raise UserError(
                f"a checkpoint of the released DPConv, as {name} shows. It cannot be loaded: that "
                "code computes different functions in training and in evaluation. Learn the ratios "
                "with `ratio: learned` instead"
            )
    return ReleasedTensors({n.removeprefix(prefix): t for n, t in entries.items()}, prefix)
