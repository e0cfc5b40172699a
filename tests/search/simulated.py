"""User functions that replace training in tests, named in studies as `simulated:...`."""

import os
import random
import signal
import time
from pathlib import Path
from typing import Any


def plain(architecture: Any, seed: int, epochs: int) -> dict[str, float]:
    width = architecture.widths[0]
    nll = 1.0 / width + 0.01 * seed + 0.1 / epochs
    return {"val_nll": nll, "val_accuracy": 100 - nll, "throughput_img_s": 1e5 / width}


def slow(architecture: Any, seed: int, epochs: int) -> dict[str, float]:
    time.sleep(0.5)
    return plain(architecture, seed, epochs)


def breaking(architecture: Any, seed: int, epochs: int) -> Any:
    """Break the device with networks of width 8; this process cannot use it any more."""
    import torch

    if architecture.widths[0] == 8:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")
    return plain(architecture, seed, epochs)


def faulty(architecture: Any, seed: int, epochs: int) -> Any:
    match architecture.widths[0] % 5:
        case 0:
            raise RuntimeError("a fault of the network")
        case 1:
            return {"val_nll": float("nan"), "throughput_img_s": 1.0}
        case 2:
            return None
        case 3:
            return {"val_nll": 1.0}
        case _:
            return plain(architecture, seed, epochs)


def killing(architecture: Any, seed: int, epochs: int) -> dict[str, float]:
    """Kill the driver once, in the middle of a study."""
    mark = Path(os.environ["PARTIALNAS_TEST_MARK"])
    with mark.open("a") as log:
        log.write(f"{architecture.digest} {seed}\n")
    if len(mark.read_text().splitlines()) == int(os.environ["PARTIALNAS_TEST_KILL_AT"]):
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(architecture, seed, epochs)


def fragile(architecture: Any, seed: int, epochs: int) -> dict[str, float]:
    """Fail for a quarter of the networks and seeds."""
    rng = random.Random(f"{architecture.digest}/{seed}")
    if rng.random() < 0.25:
        raise RuntimeError("the loss is NaN")
    metrics = plain(architecture, seed, epochs)
    return metrics | {"val_nll": metrics["val_nll"] + rng.gauss(0, 0.2)}


def noisy(architecture: Any, seed: int, _epochs: int) -> dict[str, float]:
    """Wider networks are better, with noise per network and seed."""
    noise = random.Random(f"{architecture.digest}/{seed}").gauss(0, 0.1)
    return {"val_nll": 2 - architecture.widths[0] / 10 + noise, "val_accuracy": 50 + noise}


def tested(architecture: Any, seed: int, epochs: int) -> dict[str, float]:
    metrics = noisy(architecture, seed, epochs)
    nll = metrics["val_nll"]
    return metrics | {"test_nll": nll + 0.1, "test_accuracy": 40 + 10 * nll}


def waiting(architecture: Any, seed: int, epochs: int) -> dict[str, float]:
    """Wait for the file `go`, except in the first trial of each worker."""
    mark = Path(os.environ["PARTIALNAS_TEST_MARK"])
    with mark.open("a") as log:
        log.write(f"{os.getpid()}\n")
    first = mark.read_text().splitlines().count(str(os.getpid())) == 1
    while not first and not (mark.parent / "go").exists():
        time.sleep(0.02)
    return plain(architecture, seed, epochs)
