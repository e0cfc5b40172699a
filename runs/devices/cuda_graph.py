"""CUDA graphs: what prevents the capture of a pass, and the capture itself."""

from collections.abc import Callable, Sequence
from functools import cache

import torch

from partialnas.space.errors import DeviceFaultError, describe_error

Pass = Callable[[], object]
"""Work for the current GPU; returns before the GPU is done."""

_WARM_UP_PASSES = 3
_WAITS = "synchronizing CUDA operation"  # part of torch's message


@cache
def side_stream(device: torch.device) -> torch.cuda.Stream:
    """Return this process's stream for warm-up and capture on a GPU.

    There is only one, because cuBLAS keeps a workspace for each stream that it has worked on.
    """
    return torch.cuda.Stream(device)


def waits_for_gpu(run: Pass) -> bool:
    """Run a pass once, and return whether it waits for the GPU, so that it cannot be captured.

    torch raises an error at the first operation that waits. Unlike the error of a capture, this one
    leaves the state of torch intact.
    """
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        run()
    except RuntimeError as error:
        if _WAITS not in str(error):
            raise
        return True
    finally:
        torch.cuda.set_sync_debug_mode(mode)
    return False


def capture(passes: Sequence[Pass], device: torch.device) -> list[Pass]:
    """Capture passes on the current GPU as CUDA graphs, and return their replays.

    The graphs share their memory: replay them one after the other. Check first that the passes do
    not wait for the GPU (see `waits_for_gpu`).

    Raises:
        torch.OutOfMemoryError: the memory of the GPU does not suffice; the process can go on.
        DeviceFaultError: a capture failed in another way. torch does not restore its streams,
            memory pools and generators after that.
    """
    stream = side_stream(device)
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # libraries initialize themselves in the first passes
        for _ in range(_WARM_UP_PASSES):
            passes[0]()
    torch.cuda.current_stream().wait_stream(stream)
    graphs: list[torch.cuda.CUDAGraph] = []
    for run in passes:
        graph = torch.cuda.CUDAGraph()
        pool = graphs[0].pool() if graphs else None
        try:
            with torch.cuda.graph(graph, pool=pool, stream=stream):
                run()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            fault = f"the capture of a CUDA graph failed ({describe_error(error)})"
            raise DeviceFaultError(str(device), fault) from error
        graphs.append(graph)
    return [graph.replay for graph in graphs]
