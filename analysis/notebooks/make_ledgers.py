"""Makes the ledgers that the notebooks read: real trainings, then a small copy of each.

Run from the top of the repository, or with `make example-ledgers`; about ten minutes on two cores.
Studies that have finished under results/examples are not run again.
"""

import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

COMMANDS = r"""
run search/studies/partitions.yaml --quick
run search/studies/static-vs-dynamic.yaml --quick --set measure.max_seconds=0.5
run search/studies/quickstart.yaml --set task.data=digits --set task.resolution=16
run search/studies/quickstart.yaml --set task.data=digits --set task.resolution=16 \
    --set study=quickstart-random --set search.sampler=random
audit quickstart --longer 4x --sample 12 --seeds 2
remeasure partitions --top all --again --seconds 3
remeasure static-vs-dynamic --top all --again --seconds 3
"""
"""What makes the ledgers: verbs of `partialnas`; folders are under `MADE`.

Short studies are timed while workers still start; the last commands time them when nothing trains.
"""

MADE = Path("results/examples")
SHIPPED = Path(__file__).parent / "ledgers"
_PRIVATE = re.compile(rb"(?<![\w./])/(?:home|root|tmp|work|Users|mnt|data)/[\w./-]+")


def placed(words: list[str]) -> list[str]:
    """A command with the folder that it writes to, or reads."""
    if words[0] != "run":
        return [words[0], str(MADE / words[1]), *words[2:]]
    named = [word.removeprefix("study=") for word in words if word.startswith("study=")]
    return [*words, "--out", str(MADE / (named or [Path(words[1]).stem])[0])]


def pack(folder: Path, out: Path) -> int:
    """Copies a study's ledger and file without weights, logs and free pages; its size in bytes."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    shutil.copyfile(folder / "study.yaml", out / "study.yaml")
    ledger = out / "ledger.sqlite"
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as connection:
        connection.execute("VACUUM INTO ?", (str(ledger),))
    if found := _PRIVATE.search(ledger.read_bytes() + (out / "study.yaml").read_bytes()):
        raise SystemExit(f"{out}: holds a path of this machine: {found[0].decode()}")
    return ledger.stat().st_size


def make() -> None:
    """Runs the studies, then packs each of them."""
    for command in COMMANDS.replace("\\\n", "").strip().splitlines():
        words = [sys.executable, "-m", "partialnas", *placed(shlex.split(command))]
        subprocess.run(words, check=True)
    for folder in sorted(MADE.iterdir()):
        size = pack(folder, SHIPPED / folder.name)
        print(f"{SHIPPED.name}/{folder.name}: {size / 1000:.0f} kB")


if __name__ == "__main__":
    make()
