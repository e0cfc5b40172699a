"""Readers of a damaged ledger return what was written, or say that it is damaged."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_study import write

from partialnas.runs.ledger import column_store, file
from partialnas.runs.ledger.ledger import Ledger
from partialnas.space.errors import MachineError, UserError

PAGE = 4096
TRIALS = 30


@pytest.fixture(scope="module", autouse=True)
def small_volumes() -> Iterator[None]:
    """Make volumes of eight rows, so that few rows fill several and some remain."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(column_store, "VOLUME_SIZE", 8)
        yield


READERS: dict[str, Callable[[Ledger], Any]] = {
    **{
        name: lambda ledger, name=name: getattr(ledger, name)()
        for name in (
            *("proposals", "proposal_keys", "arms", "trials", "trial_results", "state_counts"),
            *("count_measured_networks", "count_repeated_proposals", "learned_ratio_keys"),
            *("warnings", "frozen_digests", "measurements", "usage_rows", "environments"),
        )
    },
    "meta": lambda ledger: ledger.meta,
    "columns": lambda ledger: ledger.trial_columns("number", "name", "reason", "metrics", "cost"),
    "subjects": lambda ledger: [ledger.subject(n) for n in range(1, 6)],
    **{f"trial {n}": lambda ledger, n=n: ledger.trial(n) for n in (1, 4, 5, 8, 18, 30, 31)},
    "curves": lambda ledger: [ledger.curve(f"{n:016x}") for n in range(TRIALS)],
    "ratios": lambda ledger: [ledger.ratios(f"{n:016x}") for n in range(TRIALS)],
    "last ratios": lambda ledger: [ledger.last_ratios(f"{n:016x}") for n in range(TRIALS)],
}


def answers(folder: Path) -> dict[str, Any]:
    """Return what each reader returns, or that the ledger is damaged."""
    try:
        with Ledger.open(folder) as ledger:
            return {name: _answer(reader, ledger) for name, reader in READERS.items()}
    except MachineError as error:
        if "is damaged" not in str(error):
            raise
        return dict.fromkeys(READERS, "damaged")


def _answer(reader: Callable[[Ledger], Any], ledger: Ledger) -> Any:
    try:
        return reader(ledger)
    except MachineError as error:
        if "is damaged" not in str(error):
            raise
        return "damaged"
    except UserError as error:  # no such trial
        return str(error)


def flip(content: bytes, rng: random.Random) -> bytes:
    position = rng.randrange(len(content))
    flipped = content[position] ^ rng.randrange(1, 256)
    return content[:position] + bytes([flipped]) + content[position + 1 :]


def misplace_page(content: bytes, rng: random.Random) -> bytes:
    source, target = (PAGE * n for n in rng.sample(range(len(content) // PAGE), 2))
    return content[:target] + content[source : source + PAGE] + content[target + PAGE :]


def truncate(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


FAULTS = {
    "flip": (flip, 1000),
    "misplaced page": (misplace_page, 200),
    "truncation": (truncate, 200),
}


@pytest.fixture(scope="module", params=[TRIALS, 5], ids=["study", "tables of one page"])
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write(folder, request.param)
    return folder


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("share", [0.05, pytest.param(0.5, marks=pytest.mark.slow)])
def test_a_damaged_ledger_is_read_right_or_refused(
    study: Path, fault: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = study / "backups" / "ledger-1.sqlite"
    monkeypatch.setattr(file, "newest_valid_backup", lambda _: copy)  # checking it takes long
    damaging, count = FAULTS[fault]
    truth, path = answers(study), study / "ledger.sqlite"
    good = path.read_bytes()
    rng = random.Random(f"{fault} {share}")
    detected = 0
    try:
        for _ in range(round(share * count)):
            path.write_bytes(damaging(good, rng))
            results = answers(study)
            differing = {n for n in READERS if results[n] != truth[n]}
            assert {n for n in differing if results[n] != "damaged"} == set()
            detected += bool(differing)
    finally:
        path.write_bytes(good)
    assert detected > share * count / 6
