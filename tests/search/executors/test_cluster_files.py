"""The files of docs/cluster, tested as far as possible on one machine."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from partialnas.cli import app
from partialnas.search.study.sections import ExecutorSpec

FILES = Path(__file__).parents[3] / "docs" / "cluster"
SLURM = FILES / "slurm.sh"

FAKES = {
    "srun": 'while [[ $1 == -* ]]; do [[ $1 == -w ]] && shift; shift; done; exec "$@"',
    "hostname": "echo 127.0.0.1 10.0.0.1",
    "scontrol": 'echo "scontrol $*" >> "$LOG"; [[ $1 == show ]] && printf "one\\ntwo\\n"; exit 0',
    "ray": 'echo "ray $* token=${RAY_AUTH_TOKEN:+set}" >> "$LOG"; exec "$PYTHON" "$LISTEN" "$@"',
    "partialnas": """
trap 'echo "ended by USR1" >> "$LOG"; exit 75' USR1
trap 'echo "ended by TERM" >> "$LOG"; exit 143' TERM
echo "partialnas $*" >> "$LOG"
while [[ $(grep -c ^ray "$LOG") -lt ${NODES:-0} ]]; do sleep 0.05; done
[[ -n ${LASTS:-} ]] || exit "${CODE:-0}"
while true; do sleep 0.05; done""",
}
LISTEN = """
import socket, sys, time
from pathlib import Path
port = next((int(a[7:]) for a in sys.argv if a.startswith("--port=")), 0)
if "--head" in sys.argv:
    server = socket.create_server(("127.0.0.1", port))
time.sleep(300)
"""


class Slurm:
    """A batch system that runs the script on this machine and logs its commands."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        (folder / "venv" / "bin").mkdir(parents=True)
        (folder / "venv" / "bin" / "activate").touch()
        (folder / "bin").mkdir()
        (folder / "listen.py").write_text(LISTEN)
        for name, text in FAKES.items():
            (folder / "bin" / name).write_text(f"#!/bin/bash\n{text}\n")
            (folder / "bin" / name).chmod(0o755)
        (folder / "bin" / "python").symlink_to(sys.executable)
        self.environment = {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(folder),
            "LOG": str(self.log),
            "PYTHON": sys.executable,
            "LISTEN": str(folder / "listen.py"),
            "SLURM_JOB_ID": str(os.getpid()),
            "SLURM_CPUS_PER_TASK": "4",
            "SLURM_JOB_NODELIST": "node[1-2]",
        }

    def start(self, nodes: int, **more: str) -> "subprocess.Popen[str]":
        environment = {**self.environment, "SLURM_JOB_NUM_NODES": str(nodes), **more}
        bash = shutil.which("bash") or "bash"
        return subprocess.Popen([bash, SLURM], env=environment, stderr=subprocess.PIPE, text=True)

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def slurm(tmp_path: Path) -> Slurm:
    return Slurm(tmp_path)


def until_running(slurm: Slurm, script: "subprocess.Popen[str]") -> None:
    while not any(line.startswith("partialnas") for line in slurm.lines()):
        assert script.poll() is None, script.communicate()[1]
        time.sleep(0.05)


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_job_on_one_node_runs_the_study_and_returns_its_exit_code(
    slurm: Slurm, code: int
) -> None:
    script = slurm.start(1, CODE=str(code))
    _, output = script.communicate()
    assert script.returncode == code, output
    home = slurm.environment["HOME"]
    run = f"partialnas run {home}/studies/study.yaml --out {home}/results/study"
    assert slurm.lines() == [run]


@pytest.mark.parametrize(
    ("number", "code", "requeued"), [(signal.SIGUSR1, 75, True), (signal.SIGTERM, 143, False)]
)
def test_a_signal_reaches_the_run_and_its_exit_code_decides_about_requeueing(
    slurm: Slurm, number: int, code: int, requeued: bool
) -> None:
    script = slurm.start(1, LASTS="yes")
    until_running(slurm, script)
    script.send_signal(number)
    _, output = script.communicate()
    assert script.returncode in (code, 128 + number), output
    assert f"ended by {'USR1' if requeued else 'TERM'}" in slurm.lines()
    assert (f"scontrol requeue {os.getpid()}" in slurm.lines()) is requeued


def test_a_job_on_two_nodes_starts_and_stops_ray_on_both(slurm: Slurm) -> None:
    script = slurm.start(2, NODES="2")
    _, output = script.communicate()
    assert script.returncode == 0, output
    head, other = (line for line in slurm.lines() if line.startswith("ray"))
    address = re.search(r"--address (\S+)", next(x for x in slurm.lines() if "partialnas" in x))
    assert address is not None
    host, _, port = address[1].partition(":")
    assert f"--head --node-ip-address={host} --port={port}" in head
    assert f"--address={host}:{port}" in other
    assert head.endswith("token=set")
    assert other.endswith("token=set")
    (run,) = (line for line in slurm.lines() if line.startswith("partialnas"))
    assert "--set executor.workers=8" in run
    assert not list(_listeners(slurm))


def _listeners(slurm: Slurm) -> Iterator[int]:
    import psutil

    for process in psutil.process_iter(["cmdline"]):
        if slurm.environment["LISTEN"] in (process.info["cmdline"] or []):
            yield process.pid


def test_ray_accepts_the_cluster_file_for_virtual_machines() -> None:
    config = yaml.safe_load((FILES / "ray-cluster.yaml").read_text())
    checked = subprocess.run(
        [sys.executable, "-c", _PREPARE, FILES / "ray-cluster.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert config["max_workers"] == len(config["provider"]["worker_ips"])
    commands = config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1]
    assert all("RAY_AUTH_MODE=token" in command for command in commands)


_PREPARE = """
import sys, yaml
from ray.autoscaler._private.util import prepare_config, validate_config
validate_config(prepare_config(yaml.safe_load(open(sys.argv[1]))))
"""

# Fields of KubeRay 1.6 for each kind of object in the file.
JOB = {"entrypoint", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit"}
CLUSTER = {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
HEAD = {"rayStartParams", "template", "serviceType"}
WORKER = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
POD = {"containers", "volumes", "securityContext", "terminationGracePeriodSeconds"}
CONTAINER = {"name", "image", "ports", "resources", "volumeMounts", "env"}


def test_the_kuberay_file_has_valid_fields_and_volumes_for_all_mounts() -> None:
    *claims, job = yaml.safe_load_all((FILES / "kuberay.yaml").read_text())
    assert {claim["kind"] for claim in claims} == {"PersistentVolumeClaim"}
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert job["spec"].keys() <= JOB | {"rayClusterSpec"}
    assert cluster.keys() <= CLUSTER
    assert cluster["rayVersion"].split(".")[:2] == version("ray").split(".")[:2]
    assert cluster["headGroupSpec"].keys() <= HEAD
    names = {claim["metadata"]["name"] for claim in claims}
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert group.keys() <= HEAD | WORKER
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        _check_pod(group["template"]["spec"], names)


def _check_pod(pod: dict[str, Any], claims: set[str]) -> None:
    assert pod.keys() <= POD
    (container,) = pod["containers"]
    assert container.keys() <= CONTAINER
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    used = {
        v["persistentVolumeClaim"]["claimName"]
        for v in pod["volumes"]
        if len(v) > 1 and "persistentVolumeClaim" in v
    }
    assert used <= claims


@pytest.mark.parametrize("name", ["slurm.sh", "ray-cluster.yaml", "kuberay.yaml"])
def test_commands_in_the_files_are_valid(name: str) -> None:
    text = (FILES / name).read_text()
    settings = set(re.findall(r"--set [\"']?executor\.(\w+)=", text))
    assert settings
    assert settings <= ExecutorSpec.model_fields.keys()
    help_text = CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "200"}).output
    command = text[text.index("partialnas run") :].split("\n\n")[0]
    for option in ("--out", *(["--address"] if "--address" in command else [])):
        assert option in help_text


def test_settings_to_edit_are_marked() -> None:
    for name in ("slurm.sh", "ray-cluster.yaml", "kuberay.yaml"):
        assert (FILES / name).read_text().count("EDIT") > 3
