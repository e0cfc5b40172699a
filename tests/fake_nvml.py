"""A stand-in for the module pynvml: GPUs without a driver (see the fixture `install_nvml`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

InstallNvml = Callable[[ModuleType | None], None]
"""The fixture `install_nvml`."""


class NVMLError(Exception):
    """What pynvml raises."""


@dataclass(frozen=True)
class Gpu:
    """A GPU or a MIG instance; also its own handle.

    Attributes:
        uuid: UUID with its prefix.
        name: model.
        instances: MIG instances by number, None where there is none.
        compute_capability: major and minor number.
    """

    uuid: str
    name: str = "NVIDIA H200"
    instances: tuple["Gpu | None", ...] = ()
    compute_capability: tuple[int, int] = (9, 0)


class FakeNvml(ModuleType):
    """The functions of pynvml that partialnas calls; `init_count` counts initializations."""

    NVML_DEVICE_MIG_DISABLE = 0
    NVMLError = NVMLError

    def __init__(self, gpus: Sequence[Gpu], *, has_driver: bool = True) -> None:
        super().__init__("pynvml")
        self.gpus, self.has_driver, self.init_count = gpus, has_driver, 0

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.has_driver:
            raise NVMLError("NVML Shared Library Not Found")
        self.init_count += 1

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "580.65.06"

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Gpu:  # noqa: N802
        return self.gpus[index]

    def nvmlDeviceGetUUID(self, handle: Gpu) -> str:  # noqa: N802
        return handle.uuid

    def nvmlDeviceGetName(self, handle: Gpu) -> str:  # noqa: N802
        return handle.name

    def nvmlDeviceGetCudaComputeCapability(self, handle: Gpu) -> tuple[int, int]:  # noqa: N802
        return handle.compute_capability

    def nvmlDeviceGetMigMode(self, handle: Gpu) -> list[int]:  # noqa: N802
        if "H200" not in handle.name:
            raise NVMLError("Not Supported")
        return [int(bool(handle.instances)), 0]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: Gpu) -> int:  # noqa: N802
        return len(handle.instances)

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Gpu, index: int) -> Gpu:  # noqa: N802
        if (instance := handle.instances[index]) is None:
            raise NVMLError("Not Found")
        return instance
