"""Mutate study files and architectures, and read them: every one is accepted or rejected in words.

    python benchmarks/fuzz.py [COUNT] [--seed SEED]

Studies are loaded and resolved, `COUNT` of them (default: 20,000); one in ten also mutates an
architecture in JSON. Fifty more are checked in full, with estimates of their time. A mutation
replaces, removes, repeats or renames a random value, or changes the text. Nothing but `UserError`
and `MachineError` may be raised, none may take more than 5 seconds of CPU time (a check: 60), and
the memory of the process may not grow by more than 1 GB. The exit code is 1 otherwise.
"""

import copy
import json
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from partialnas.search.check.check_study import check_study
from partialnas.search.resolve.resolve import resolve_study
from partialnas.search.study.study import Study
from partialnas.search.study.study_file import load_study
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.presets import preset
from partialnas.space.errors import MachineError, UserError

STUDIES = Path(__file__).parents[1] / "search" / "studies"
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # in C: ten times as fast
MAX_SECONDS = 5.0
MAX_CHECK_SECONDS = 60.0
MAX_GROWTH = 1e9

VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 7, 10**6, 10**9, 2**31, 2**53, 2**63, 2**64, 10**30),
    *(0.0, -0.5, 0.5, 1e-300, 1e308, -1e308, float("inf"), float("nan"), "1/4", "1/0", "1e999"),
    *("", " ", "a", "none", "auto", "é", "漢字", "\u202e", "\x00", "\x1b[31m", "a" * 500),
    *("stages 1-3", "stages 1-99999999", "stage 0", "timm:resnet18", "timm:", "partialnet_t0"),
    *("file.json", "../../etc/passwd", "module:function", "2024-13-45", "20M", "9" * 40, "1e400"),
    *(
        [],
        {},
        [1],
        [[]],
        [1, 2, 3, 4],
        [10**9] * 4,
        {"a": 1},
        {"min": 1, "max": 0},
        {"learned": {}},
    ),
    *({"values": [1, 2]}, {"use": "short"}, {"preset": "fasternet_t0"}, ["conv"] * 9),
]
"""Values that replace those of a study."""

TEXTS = [
    *(
        "[" * 300,
        "{" * 300,
        "&a [*a]",
        "*a",
        "!!int x",
        "!!python/object:os.system x",
        "\t",
        "\x00",
    ),
    *("---\n", "...\n", "? ", ": ", "- ", "<<: ", "%YAML 1.1\n", "9" * 5000, "#", "'", '"', "|\n"),
    *("\ufeff", "\u2028", "010", "0x" + "f" * 500, "1e9999999", "2001-99-99", "a: " * 100, "\r"),
]
"""Texts that are inserted into a study."""


def mutate(data: Any, rng: random.Random) -> Any:
    """Return a copy of plain data with one to three random changes."""
    copied = copy.deepcopy(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        container = rng.choice([*_containers(copied)])
        _change(container, rng)
    return copied


def _containers(data: Any) -> Iterator[Any]:
    """Yield every non-empty list and mapping inside plain data."""
    items = data.values() if isinstance(data, dict) else data
    if isinstance(data, dict | list) and data:
        yield data
        for item in items:
            yield from _containers(item)


def _change(container: Any, rng: random.Random) -> None:
    """Change one item of a list or mapping in place."""
    key = rng.choice([*(container if isinstance(container, dict) else range(len(container)))])
    kind = rng.choice(("replace", "replace", "remove", "rename", "nest", "repeat"))
    value = container[key]
    if kind == "replace":
        container[key] = copy.deepcopy(rng.choice(VALUES))
    elif kind == "remove" and len(container) > 1:
        del container[key]
    elif kind == "rename" and isinstance(container, dict):
        name = rng.choice([value for value in VALUES if isinstance(value, str | int | bool)])
        container[name] = container.pop(key)
    elif kind == "nest":
        for _ in range(rng.choice((1, 5, 100))):
            value = [value]
        container[key] = value
    elif isinstance(container, list):
        container += [value] * rng.choice((1, 3, 1000))
    else:
        count = rng.choice((1, 10, 300))
        container.update({f"{key}{i}": copy.deepcopy(value) for i in range(count)})


def mutate_text(text: str, rng: random.Random) -> str:
    """Return a text with one random change of characters or lines."""
    position = rng.randrange(len(text))
    lines = text.splitlines(keepends=True)
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.choice(("insert", "delete", "flip", "swap", "indent", "truncate"))
    if kind == "insert":
        return text[:position] + rng.choice(TEXTS) + text[position:]
    if kind == "delete":
        return text[:position] + text[position + rng.randrange(1, 40) :]
    if kind == "flip":
        return text[:position] + chr(rng.randrange(1, 0x2FF)) + text[position + 1 :]
    if kind == "truncate":
        return text[:position]
    if kind == "swap":
        lines[first], lines[second] = lines[second], lines[first]
    else:
        lines[first] = " " * rng.randrange(1, 5) + lines[first]
    return "".join(lines)


def study_text(rng: random.Random) -> str:
    """Return the text of a mutated study."""
    text, data = rng.choice(_shipped_studies())
    if rng.random() < 0.3:
        return mutate_text(text, rng)
    changed: str = yaml.dump(mutate(data, rng), Dumper=_DUMPER, sort_keys=False, allow_unicode=True)
    return changed


@cache
def _shipped_studies() -> list[tuple[str, Any]]:
    """Return the text and the data of each study."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(STUDIES.glob("*.yaml"))]
    return [(text, yaml.safe_load(text)) for text in texts]


def read_study(text: str, folder: Path) -> None:
    """Load and resolve a study."""
    resolve_study(_load(text, folder), folder)


def check(text: str, folder: Path) -> None:
    """Load a study and check it as the verb does, with an estimate of its time."""
    check_study(_load(text, folder), base_dir=folder, show=lambda _: None)


def _load(text: str, folder: Path) -> Study:
    path = folder / "study.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return load_study(path)


def read_architecture(text: str) -> None:
    """Read an architecture from JSON."""
    Architecture.from_json(text).summary()


def architecture_text(rng: random.Random) -> str:
    """Return the text of a mutated architecture."""
    text = preset(rng.choice(("partialnet_t0", "fasternet_t0"))).to_json()
    return (
        mutate_text(text, rng) if rng.random() < 0.3 else json.dumps(mutate(json.loads(text), rng))
    )


def defects(count: int, seed: int) -> Iterator[str]:
    """Read mutated studies and architectures, and yield a report of each defect."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        for number in range(count):
            text = study_text(rng)
            yield from _defect(f"study {number}", lambda text: read_study(text, folder), text)
            if number % 10 == 0:
                yield from _defect(
                    f"architecture {number}", read_architecture, architecture_text(rng)
                )


def check_defects(count: int, seed: int) -> Iterator[str]:
    """Check mutated studies in full, and yield a report of each defect."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        for number in range(count):
            text = study_text(rng)
            read = partial(check, folder=Path(name))
            yield from _defect(f"check {number}", read, text, MAX_CHECK_SECONDS)


def _defect(
    name: str, read: Callable[[str], None], text: str, max_seconds: float = MAX_SECONDS
) -> Iterator[str]:
    before = _peak_memory()
    start = time.process_time()
    try:
        with _time_limit(4 * max_seconds):
            read(text)
    except (UserError, MachineError) as error:
        if len(str(error)) > 20_000:
            yield f"{name}: the message has {len(str(error)):,} characters\n{text[:2000]}"
    except BaseException:
        yield f"{name}: {traceback.format_exc(limit=-6)}\n{text[:2000]}"
    if (seconds := time.process_time() - start) > max_seconds:
        yield f"{name}: {seconds:.1f} s\n{text[:2000]}"
    if (growth := _peak_memory() - before) > MAX_GROWTH:
        yield f"{name}: {growth / 1e9:.1f} GB\n{text[:2000]}"


def _peak_memory() -> float:
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError after this CPU time, which does not depend on other processes."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"more than {seconds:.0f} s")

    earlier = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, earlier)


def main(arguments: list[str]) -> int:
    seed = int(arguments[arguments.index("--seed") + 1]) if "--seed" in arguments else 0
    count = int(arguments[0]) if arguments and arguments[0].isdecimal() else 20_000
    count_defects = 0
    for report in chain(defects(count, seed), check_defects(50, seed)):
        count_defects += 1
        print(f"{report}\n", flush=True)
    print(f"{count:,} studies with seed {seed}: {count_defects} defects")
    return int(count_defects > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
