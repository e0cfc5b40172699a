"""Free memory: that of the machine within the limits of its control groups, old and new."""

from pathlib import Path

import psutil
import pytest

from partialnas.runs.system.memory import available_memory

MIB = 2**20


def write_group(folder: Path, limit: object, used: int, cache: int, version: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    new = version == "v2"
    names = ("memory.max", "memory.current") if new else MEMORY_V1
    for name, value in zip(names, (limit, used), strict=True):
        (folder / name).write_text(f"{value}\n")
    key = "inactive_file" if new else "total_inactive_file"
    (folder / "memory.stat").write_text(f"anon 1\n{key} {cache}\n")


MEMORY_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")


def test_without_control_groups_it_is_that_of_the_machine(tmp_path: Path) -> None:
    free = available_memory(tmp_path, tmp_path / "missing")
    assert free == pytest.approx(psutil.virtual_memory().available, rel=0.3)


@pytest.mark.parametrize("version", ["v2", "v1"])
def test_a_limit_of_the_group_counts_without_its_file_cache(version: str, tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text(
        "0::/job/step\n" if version == "v2" else "5:cpu,memory:/job/step\n1:x:/\n"
    )
    root = tmp_path / "memory" if version == "v1" else tmp_path
    unlimited = "max" if version == "v2" else 2**63 - 4096
    write_group(root / "job" / "step", unlimited, 9 * MIB, 0, version)
    write_group(root / "job", 10 * MIB, 9 * MIB, 3 * MIB, version)
    assert available_memory(tmp_path, membership) == 4 * MIB
    write_group(root / "job" / "step", 8 * MIB, 9 * MIB, 2 * MIB, version)
    assert available_memory(tmp_path, membership) == 1 * MIB
    write_group(root / "job" / "step", 8 * MIB, 9 * MIB, 0, version)
    assert available_memory(tmp_path, membership) == 0


@pytest.mark.parametrize("text", ["0::/job", "", "0::/../../outside\n"])
def test_groups_without_a_controller_or_from_elsewhere_are_ignored(
    text: str, tmp_path: Path
) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text(text)
    assert available_memory(tmp_path / "groups", membership) > MIB
