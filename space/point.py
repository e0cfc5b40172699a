"""Points: what is chosen in a space, by name."""

from collections.abc import Iterator, Mapping

from partialnas.space.levels import Label


class Point(Mapping[str, Label]):
    """An immutable mapping from the names of the active choices to the labels of their levels.

    `dict(point)` is plain data, for JSON and for samplers; points are equal where these are.
    """

    __slots__ = ("_labels",)

    def __init__(self, labels: Mapping[str, Label]) -> None:
        self._labels = dict(labels)

    def __getitem__(self, name: str) -> Label:
        return self._labels[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._labels)

    def __len__(self) -> int:
        return len(self._labels)

    def __hash__(self) -> int:
        return hash(frozenset(self._labels.items()))

    def __repr__(self) -> str:
        return f"Point({self._labels!r})"
