"""Draw one figure of every kind from the shipped ledgers, and write docs/gallery.md.

Run it from anywhere, or with `make gallery`; it takes about two minutes. The figures are written to
docs/gallery. `--page` writes the page alone.
"""

import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "gallery.md"
FIGURES = ROOT / "docs" / "gallery"
LEDGERS = "analysis/notebooks/ledgers"
TABULAR = " ".join(f"results/tabular-{seed}" for seed in (1, 2, 3, 4, 5))


@dataclass(frozen=True, kw_only=True)
class Example:
    """One figure of the gallery.

    Attributes:
        title: heading of the figure.
        text: what it shows.
        command: command that draws it; the last word is the name of the file.
        before: commands that make what the figure reads, if it is not shipped.
    """

    title: str
    text: str
    command: str
    before: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """The name of the figure's file."""
        return shlex.split(self.command)[-1]


SECTIONS: dict[str, tuple[Example, ...]] = {
    "Ablations": (
        Example(
            title="Effects",
            text="The difference of every arm from its baseline: a dot per seed, the mean, and the "
            "simultaneous 95 % interval. The band is the margin of equivalence.",
            command=f"partialnas effects {LEDGERS}/placement --width page -o effects.svg",
        ),
        Example(
            title="Interaction",
            text="One factor of a factorial design on the axis, another as lines: parallel lines "
            "are effects that add up.",
            command=f"partialnas effects {LEDGERS}/ingredients --kind interaction "
            "-o interaction.svg",
        ),
        Example(
            title="Ladder",
            text="One ingredient more on each rung, and what each step adds.",
            command=f"partialnas effects {LEDGERS}/ladder -o ladder.svg",
        ),
    ),
    "Searches": (
        Example(
            title="Front",
            text="All networks of a study, the front in its objectives, and baselines.",
            command=f"partialnas pareto {LEDGERS}/quickstart -o front.svg",
        ),
        Example(
            title="Front with a third quantity",
            text="The area of a marker is a third quantity. The axes are not the objectives, so "
            "the figure is a projection.",
            command=f"partialnas pareto {LEDGERS}/quickstart -x macs -y val_accuracy "
            "--size params -o front-size.svg",
        ),
        Example(
            title="Published families",
            text="PartialNet and FasterNet with their published values.",
            command="partialnas pareto --family partialnet --family fasternet -x macs "
            "-y val_accuracy -o families.svg",
        ),
        Example(
            title="Convergence",
            text="Hypervolume over trials and device time, here of two samplers. Repeats of one "
            "study become a median and quartiles.",
            command=f"partialnas figure convergence {LEDGERS}/quickstart "
            f"{LEDGERS}/quickstart-random -o convergence.svg",
        ),
        Example(
            title="Attainment",
            text="The median and the quartiles of the fronts of five searches, here on a table of "
            "trained networks.",
            before=tuple(
                f"partialnas run benchmarks/tabular_search.yaml --quick "
                f"--set search.seed={folder.rpartition('-')[2]} --out {folder}"
                for folder in TABULAR.split()
            ),
            command=f"partialnas figure attainment {TABULAR} -o attainment.svg",
        ),
        Example(
            title="Distribution of errors",
            text="The share of networks that are at least as good, with a bootstrap band; for "
            "random samples of a space.",
            command=f"partialnas figure edf {LEDGERS}/quickstart-random -o edf.svg",
        ),
        Example(
            title="Parallel coordinates",
            text="One line per network over the axes of the space and the objectives.",
            command=f"partialnas figure parallel {LEDGERS}/quickstart --width page -o parallel.svg",
        ),
        Example(
            title="Importance of axes",
            text="Permutation importance in a random forest, with its spread over repeats.",
            command="partialnas figure importance results/tabular-1 -o importance.svg",
        ),
        Example(
            title="A quantity by the levels of each axis",
            text="Every network of a search, by the levels that it has.",
            command=f"partialnas figure axis {LEDGERS}/quickstart-random -o axis.svg",
        ),
        Example(
            title="Learning curves",
            text="All trials of a study, the front highlighted.",
            command=f"partialnas figure curves {LEDGERS}/quickstart -o curves.svg",
        ),
        Example(
            title="Cost by block",
            text="Multiply-accumulates and parameters of every block, by formula.",
            command=f"partialnas figure cost {LEDGERS}/quickstart -o cost.svg",
        ),
    ),
    "Learned ratios": (
        Example(
            title="Ratios",
            text="The ratios of the layers over the epochs, and the final ratios with their spread "
            "over seeds.",
            command=f"partialnas ratios {LEDGERS}/static-vs-dynamic -o ratios.svg",
        ),
    ),
    "Trust in short trainings": (
        Example(
            title="Audit",
            text="Results after short and after longer training of the same networks.",
            command=f"partialnas audit {LEDGERS}/quickstart --report -o audit.svg",
        ),
    ),
}

INTRO = """# Gallery

Every kind of figure, and the command that made it. Run the commands in the root of the repository:
all of them read ledgers or tables of real trainings that are part of it. [Figures](figures.md)
describes the options, sizes and styles. `make gallery` draws all of them again.
"""


def page() -> str:
    """Return the page in Markdown."""
    parts = [INTRO]
    for section, examples in SECTIONS.items():
        parts.append(f"## {section}\n")
        for example in examples:
            commands = "\n".join([*example.before, example.command])
            parts.append(
                f"### {example.title}\n\n{example.text}\n\n"
                f"![{example.title}](gallery/{example.file})\n\n```sh\n{commands}\n```\n"
            )
    return "\n".join(parts)


def run(command: str) -> None:
    """Run a command of partialnas in the root of the repository."""
    print(f"{command}", flush=True)
    words = [sys.executable, "-m", *shlex.split(command)]
    subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def draw(example: Example) -> None:
    """Draw one figure into the folder of figures, without its tables."""
    for command in example.before:
        run(command)
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder) / example.file
        run(example.command.removesuffix(example.file) + shlex.quote(str(drawn)))
        FIGURES.mkdir(exist_ok=True)
        (FIGURES / example.file).write_bytes(drawn.read_bytes())


if __name__ == "__main__":
    if "--page" not in sys.argv:
        for examples in SECTIONS.values():
            for example in examples:
                draw(example)
    PAGE.write_text(page(), encoding="utf-8")
