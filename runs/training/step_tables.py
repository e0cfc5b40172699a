"""Tables with a row per step of an epoch, in device memory that a graph can read in every epoch."""

from collections.abc import Mapping

import torch
from torch import Tensor

from partialnas.runs.training.pool import Row


class StepTables:
    """Tables of the running epoch, and a counter on the device that selects a row.

    Args:
        device: device of the tables.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._tables: dict[str, Tensor] = {}
        self._counter = torch.zeros(1, dtype=torch.int64, device=device)

    def fill(self, tables: Mapping[str, Tensor]) -> None:
        """Copy the tables of the next epoch to the memory of the last; restart the counter."""
        self._counter.zero_()
        if not self._tables:
            self._tables = {n: table.to(self._device, copy=True) for n, table in tables.items()}
        else:
            for name, table in tables.items():
                self._tables[name].copy_(table, non_blocking=True)

    def rows(self) -> list[Row]:
        """Return the rows of all steps as views."""
        columns = zip(*(table.unbind() for table in self._tables.values()), strict=True)
        return [dict(zip(self._tables, values, strict=True)) for values in columns]

    def set_counter(self, step: int) -> None:
        """Set the row that `counted_row` returns."""
        self._counter.fill_(step)

    def counted_row(self) -> Row:
        """Return the row of the counter, selected on the device."""
        selected = ((n, t.index_select(0, self._counter)) for n, t in self._tables.items())
        return {name: row.squeeze(0) for name, row in selected}

    def store(self, values: Tensor, value: Tensor) -> None:
        """Write a scalar to the counter's place in a vector, and advance the counter."""
        values.index_copy_(0, self._counter, value.view(1))
        self._counter.add_(1)
