"""Make the shipped ledgers: run real studies, then pack a small copy of each.

The notebooks, the README and the gallery of figures read them. Run it from the root of the
repository, or with `make example-ledgers`; it takes about half an hour on two cores. Studies that
have finished in results/examples are not run again.
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
run search/studies/placement.yaml
run search/studies/partitions.yaml --quick
run search/studies/ladder.yaml --quick
run search/studies/ingredients.yaml --quick
run search/studies/static-vs-dynamic.yaml --quick --set measure.max_seconds=0.5
run search/studies/quickstart.yaml --set task.data=digits --set task.resolution=16
run search/studies/quickstart.yaml --set task.data=digits --set task.resolution=16 \
    --set study=quickstart-random --set search.sampler=random
audit quickstart --longer 4x --sample 12 --seeds 2
remeasure partitions --top all --again --seconds 3
remeasure static-vs-dynamic --top all --again --seconds 3
"""
"""Commands of `partialnas` that make the ledgers; folders are inside `RESULTS`.

Measurements of short studies overlap with the start of workers; the last commands repeat them.
"""

RESULTS = Path("results/examples")
SHIPPED = Path(__file__).parent / "ledgers"
_PRIVATE = re.compile(rb"(?<![\w./])/(?:home|root|tmp|work|Users|mnt|data)/[\w./-]+")


def add_folder(words: list[str]) -> list[str]:
    """Return a command with the folder that it writes or reads."""
    if words[0] != "run":
        return [words[0], str(RESULTS / words[1]), *words[2:]]
    names = [word.removeprefix("study=") for word in words if word.startswith("study=")]
    return [*words, "--out", str(RESULTS / (names or [Path(words[1]).stem])[0])]


def pack(folder: Path, out: Path) -> int:
    """Copy a study's ledger and file, without free pages, and return the ledger's size in bytes."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    shutil.copyfile(folder / "study.yaml", out / "study.yaml")
    ledger = out / "ledger.sqlite"
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as connection:
        connection.execute("VACUUM INTO ?", (str(ledger),))
    if match := _PRIVATE.search(ledger.read_bytes() + (out / "study.yaml").read_bytes()):
        raise SystemExit(f"{out}: contains a path of this machine: {match[0].decode()}")
    return ledger.stat().st_size


def make() -> None:
    """Run the studies, then pack each of them."""
    for command in COMMANDS.replace("\\\n", "").strip().splitlines():
        words = [sys.executable, "-m", "partialnas", *add_folder(shlex.split(command))]
        subprocess.run(words, check=True)
    for folder in sorted(RESULTS.iterdir()):
        size = pack(folder, SHIPPED / folder.name)
        print(f"{SHIPPED.name}/{folder.name}: {size / 1000:.0f} kB")


if __name__ == "__main__":
    make()
