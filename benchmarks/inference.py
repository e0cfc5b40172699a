"""Speed of presets in training and deploy form, relative to timm's FasterNet of the same size.

Each network is interleaved with timm's FasterNet of its size, which has relative throughput 1.0.
`python benchmarks/inference.py --help`.
"""

import argparse

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.datasets.task import Task
from partialnas.runs.measure.measure import measure
from partialnas.runs.records.subject import parse_subject
from partialnas.space.arch.presets import preset

LETTERS = ("t0", "t1", "t2", "s", "m", "l")


def main() -> None:
    """Print throughputs relative to timm's FasterNet, with their intervals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--letters", nargs="+", default=["t0", "t1"], choices=LETTERS)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--seconds", type=float, default=15.0, help="time limit of each measurement"
    )
    options = parser.parse_args()
    task = Task(data="random", resolution=options.resolution, channels=3, classes=1000)
    print(f"batch {options.batch_size} at {options.resolution}, device {options.device}, 1 thread")
    print(f"{'network':32} {'form':9} {'img/s':>9} {'relative':>9} {'95 % interval':>15} noisy")
    for letter in options.letters:
        reference = parse_subject(f"timm:fasternet_{letter}")
        for family in ("fasternet", "partialnet"):
            for form in ("training", "deploy"):
                protocol = Protocol(
                    device=options.device,
                    batch_size=options.batch_size,
                    form=form,
                    max_seconds=options.seconds,
                )
                m = measure(preset(f"{family}_{letter}"), task, protocol, reference)
                interval = f"{m.relative_low:.3f}-{m.relative_high:.3f}"
                print(
                    f"{m.name:32} {form:9} {m.throughput_img_s:9.1f} "
                    f"{m.relative_throughput:9.3f} {interval:>15} {'noisy' if m.noisy else ''}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
