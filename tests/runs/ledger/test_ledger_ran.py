from pathlib import Path

from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.record import Record


def test_trials_are_counted_by_environment_the_most_frequent_first(tmp_path: Path) -> None:
    facts = {"digest": "d", "name": "n", "fidelity": 1}
    with Ledger.create(tmp_path / "study", {}) as ledger:
        proposal = ledger.add_proposal(None, "d", {}, {})
        keys = {seed: f"k{seed}" for seed in range(4)}
        ledger.plan(proposal, **facts, keys=keys)
        for seed, torch in enumerate(("2.9", "2.10", "2.10")):
            ledger.start(keys[seed])
            environment = {"torch": torch}
            ended = {"state": "done", "environment": environment}
            ledger.finish(Record(key=keys[seed], seed=seed, **facts, **ended))
        ran, finished = (
            ledger.environments(),
            [row.finished for row in ledger.trials() if row.finished],
        )
    assert [(each.environment, each.trials) for each in ran[:1]] == [({"torch": "2.10"}, 2)]
    assert {each.trials for each in ran if each.environment != {"torch": "2.10"}} == {1}
    assert max(each.last for each in ran if each.last) == max(finished)
    assert [each.last for each in ran if not each.environment] == [None]
