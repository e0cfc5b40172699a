import subprocess
import sys

CODE = """
import sys
import partialnas.analysis
print(*{name.partition(".")[0] for name in sys.modules})
"""


def test_analysis_takes_neither_torch_nor_ray_nor_a_plotting_library() -> None:
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "pandas" in loaded
    assert not loaded & {"torch", "ray", "timm", "torchvision", "matplotlib", "textalloc"}
