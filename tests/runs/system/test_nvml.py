import pytest
from fake_nvml import FakeNvml, Gpu, InstallNvml

from partialnas.runs.system.nvml import gpu_handle, gpu_uuid, load_nvml

TWO = (Gpu("GPU-aaaa-1"), Gpu("GPU-bbbb-2"))
DIVIDED = Gpu("GPU-dddd-4", instances=(None, Gpu("MIG-eeee-5"), Gpu("MIG-ffff-6")))


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)


@pytest.mark.parametrize(
    ("visible", "uuids"),
    [
        (None, ["GPU-aaaa-1", "GPU-bbbb-2", None]),
        ("", ["GPU-aaaa-1", "GPU-bbbb-2", None]),
        ("1", ["GPU-bbbb-2", None]),
        ("1, 0", ["GPU-bbbb-2", "GPU-aaaa-1", None]),
        ("7", [None]),
        ("GPU-bbbb-2", ["GPU-bbbb-2", None]),
        ("GPU-bb,GPU-aaaa-1", ["GPU-bbbb-2", "GPU-aaaa-1"]),
        ("GPU-", [None]),
        ("GPU-cccc-3", [None]),
        ("-1", [None]),
    ],
)
def test_devices_are_those_of_cuda_visible_devices(
    monkeypatch: pytest.MonkeyPatch,
    visible: str | None,
    uuids: list[str | None],
    install_nvml: InstallNvml,
) -> None:
    install_nvml(FakeNvml(TWO))
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu_uuid(index) for index in range(len(uuids))] == uuids


@pytest.mark.parametrize(
    ("visible", "uuid"),
    [
        (None, "MIG-eeee-5"),
        ("0", "MIG-eeee-5"),
        ("GPU-dddd-4", "MIG-eeee-5"),
        ("MIG-ffff-6", "MIG-ffff-6"),
        ("MIG-ff", "MIG-ffff-6"),
        ("1", "GPU-aaaa-1"),
    ],
)
def test_an_instance_of_a_divided_gpu_is_a_device_of_its_own(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, uuid: str, install_nvml: InstallNvml
) -> None:
    install_nvml(FakeNvml((DIVIDED, TWO[0])))
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_uuid(0) == uuid


def test_indices_of_different_models_depend_on_their_order(
    monkeypatch: pytest.MonkeyPatch, install_nvml: InstallNvml
) -> None:
    slow, fast = Gpu("GPU-aaaa-1", "Tesla T4"), Gpu("GPU-bbbb-2")
    install_nvml(FakeNvml((slow, fast)))
    assert gpu_handle(0) is None
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    assert gpu_handle(0) is None
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert gpu_handle(0) is slow
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-bbbb-2")
    monkeypatch.delenv("CUDA_DEVICE_ORDER")
    assert gpu_handle(0) is fast


def test_nvml_is_initialized_once(install_nvml: InstallNvml) -> None:
    nvml = FakeNvml(TWO)
    install_nvml(nvml)
    assert [gpu_handle(0), gpu_handle(1)] == [*TWO]
    assert nvml.init_count == 1


@pytest.mark.parametrize("nvml", [None, FakeNvml(TWO, has_driver=False)])
def test_without_package_or_driver_devices_are_unknown(
    nvml: FakeNvml | None, install_nvml: InstallNvml
) -> None:
    install_nvml(nvml)
    assert load_nvml() is None
    assert gpu_uuid(0) is None


def test_the_package_has_what_is_called() -> None:
    import pynvml

    called = [name for name in dir(FakeNvml) if name.startswith(("nvml", "NVML"))]
    assert [name for name in called if not hasattr(pynvml, name)] == []
