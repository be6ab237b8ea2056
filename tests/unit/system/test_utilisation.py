"""The use of a machine: its names, the limits of containers, GPUs, and what is worth a warning."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from drillyard.system.utilisation import EVERY_S, Monitor, Sampler, Usage, cgroup, in_words
from drillyard.system.utilisation.nvml import Gpus

MIB = 1 << 20
V100 = [
    # Two cards as nvidia-smi 418.92 listed them (pastebin.com/n7ve9DFv, 20 Aug 2019):
    # "37C P0 26W / 250W | 39MiB / 16383MiB | 0% Default", "35C P0 27W / 250W | … | 0% Default".
    {"power": 26, "used": 39, "total": 16383, "busy": 0},
    {"power": 27, "used": 39, "total": 16383, "busy": 0},
]
MX150 = [
    # nvidia-smi 418.56 (pastebin.com/LLixMbRU): "38C P8 N/A / N/A | 0MiB / 2002MiB | 0% Default":
    # a card whose power cannot be read.
    {"power": None, "used": 0, "total": 2002, "busy": 0},
]
GTX980 = [
    # nvidia-smi 450.51 (pastebin.com/18y57vsH): "38C P8 27W / 195W | 237MiB / 4035MiB | 25%".
    {"power": 27, "used": 237, "total": 4035, "busy": 25},
]


class Driver:
    """``pynvml`` with the numbers of a recording."""

    class NVMLError(Exception):
        """What the driver refuses."""

    def __init__(self, cards: list[dict[str, Any]]) -> None:
        self.cards = cards

    def nvmlInit(self) -> None:
        """The driver is there."""

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:
        return self.cards[index]

    def nvmlDeviceGetMemoryInfo(self, card: dict[str, Any]) -> SimpleNamespace:
        return SimpleNamespace(total=card["total"] * MIB, used=card["used"] * MIB)

    def nvmlDeviceGetUtilizationRates(self, card: dict[str, Any]) -> SimpleNamespace:
        return SimpleNamespace(gpu=card["busy"])

    def nvmlDeviceGetPowerUsage(self, card: dict[str, Any]) -> int:
        if card["power"] is None:
            raise self.NVMLError("Not Supported")
        return int(card["power"] * 1000)


def gpu_metrics(cards: list[dict[str, Any]]) -> dict[str, float]:
    return dict(Gpus(Driver(cards)).metrics())


def test_gpus_are_read_by_the_drivers_library():
    found = gpu_metrics(V100)
    assert found["gpu_1_utilization_percentage"] == 0
    assert found["gpu_1_power_usage_watts"] == 27
    assert found["gpu_0_memory_usage_megabytes"] == pytest.approx(39 * MIB / 1e6)
    assert found["gpu_0_memory_usage_percentage"] == pytest.approx(39 / 16383 * 100)
    assert gpu_metrics(GTX980)["gpu_0_utilization_percentage"] == 25


def test_what_a_card_does_not_know_is_left_out():
    found = gpu_metrics(MX150)
    assert "gpu_0_power_usage_watts" not in found and "gpu_0_memory_usage_megabytes" in found


def test_a_machine_without_a_driver_has_no_gpus():
    class Missing(Driver):
        def nvmlInit(self) -> None:
            raise self.NVMLError("NVML Shared Library Not Found")

    assert list(Gpus(Missing(V100)).metrics()) == []


def test_the_real_library_answers_or_is_missing():
    for name, value in Gpus().metrics():
        assert name.startswith("gpu_") and value >= 0.0


@pytest.mark.heavy
def test_the_names_are_those_of_mlflow(tmp_path):
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    theirs = set()
    for kind in (CPUMonitor, DiskMonitor, NetworkMonitor):
        monitor = kind()
        monitor.collect_metrics()
        theirs |= {f"system/{name}" for name in monitor.aggregate_metrics()}
    sampler = Sampler(tmp_path, gpus=Gpus(Driver(GTX980)))
    sampler.sample()
    psutil.cpu_percent(0.05)
    ours = sampler.sample()
    assert theirs == {name for name in ours if "gpu" not in name}
    source = inspect.getsource(GPUMonitor)
    for name in ours.keys() - theirs:
        assert name.removeprefix("system/").replace("gpu_0_", "gpu_{i}_") in source


# -- containers -----------------------------------------------------------------------------------


def files(root: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2 = {
    # As documented in admin-guide/cgroup-v2: one hierarchy, the limit at a group above ours.
    "proc/self/cgroup": "0::/pod/app\n",
    "sys/fs/cgroup/pod/memory.max": f"{1000 * MIB}\n",
    "sys/fs/cgroup/pod/memory.current": f"{700 * MIB}\n",
    "sys/fs/cgroup/pod/memory.stat": f"anon 1\ninactive_file {100 * MIB}\n",
    "sys/fs/cgroup/pod/app/memory.max": "max\n",
    "sys/fs/cgroup/pod/app/memory.current": f"{100 * MIB}\n",
    "sys/fs/cgroup/pod/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/pod/cpu.stat": "usage_usec 3000000\nuser_usec 1\n",
    "sys/fs/cgroup/pod/app/cpu.max": "max 100000\n",
    "sys/fs/cgroup/pod/app/cpu.stat": "usage_usec 5\n",
}
V1 = {
    # Docker with v1: the host's path, and the container's own files at the mount.
    "proc/self/cgroup": "4:memory:/docker/0123\n2:cpuacct,cpu:/docker/0123\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{1000 * MIB}\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{700 * MIB}\n",
    "sys/fs/cgroup/memory/memory.stat": f"total_inactive_file {100 * MIB}\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpuacct/cpuacct.usage": "3000000000\n",
}
FREE = {
    "proc/self/cgroup": "4:memory:/\n2:cpu:/\n0::/\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "5\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpuacct/cpuacct.usage": "3\n",
}


@pytest.mark.parametrize("texts", [V2, V1], ids=["v2", "v1"])
def test_limits_of_a_container_count(tmp_path, texts):
    root = files(tmp_path, texts)
    assert cgroup.memory(root) == (600 * MIB, 1000 * MIB)
    assert cgroup.processors(root) == (3.0, 1.5)
    found = Sampler(tmp_path, root, Gpus(Driver([]))).sample()
    assert found["system/system_memory_usage_percentage"] == 60
    assert found["system/system_memory_usage_megabytes"] == pytest.approx(600 * MIB / 1e6, abs=0.1)


def test_processors_of_a_container_are_counted_against_its_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    times = iter([0.0, 10.0])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    sampler = Sampler(tmp_path, files(tmp_path, V2), Gpus(Driver([])))
    sampler.sample()
    files(tmp_path, {"sys/fs/cgroup/pod/cpu.stat": "usage_usec 10500000\n"})
    # 7.5 s of processor time in 10 s, of 1.5 processors.
    assert sampler.sample()["system/cpu_utilization_percentage"] == 50


@pytest.mark.parametrize("texts", [FREE, {}, {"proc/self/cgroup": "broken"}])
def test_no_limit_is_the_machine(tmp_path, texts):
    root = files(tmp_path, texts)
    assert cgroup.memory(root) is None and cgroup.processors(root) is None
    share = Sampler(tmp_path, root, Gpus(Driver([]))).sample()
    assert share["system/system_memory_usage_percentage"] == pytest.approx(
        psutil.virtual_memory().percent, abs=10
    )


# -- over time ------------------------------------------------------------------------------------


def watched(samples: list[Usage], **more: Any) -> tuple[Monitor, list[str], list[int]]:
    said: list[str] = []
    left = iter(samples)
    monitor = Monitor(lambda: next(left), lambda: 5.0, warn=said.append, **more)
    taken = []
    for number in range(len(samples)):
        monitor.step(100.0 + number * EVERY_S, number * 7)
        monitor.step(100.1 + number * EVERY_S, 0)  # not due yet
        taken += [s["step"] for s in monitor.take()]
    return monitor, said, taken


def gpu(busy: float) -> Usage:
    return {"system/gpu_0_utilization_percentage": busy}


def test_a_sample_every_ten_seconds_and_each_once():
    monitor, said, taken = watched([gpu(50)] * 4)
    assert taken == [7, 14, 21] and not said  # the first look only begins to count
    assert monitor.latest == gpu(50) and monitor.take() == []


def test_an_idle_gpu_is_told_once_after_ten_minutes_and_again_after_it_was_busy():
    monitor, said, _ = watched([gpu(5)] * 61, gpus=None)
    assert not said
    monitor, said, _ = watched([gpu(5)] * 80, gpus=None)
    assert len(said) == 1 and "GPU 0 was in use 5 % of the last 10 minutes" in said[0]
    assert monitor.warnings == said
    monitor, said, _ = watched([*[gpu(5)] * 80, *[gpu(90)] * 80, *[gpu(5)] * 80], gpus=(0,))
    assert len(said) == 2
    assert watched([gpu(5)] * 80, gpus=(1,))[1] == []  # another run's
    assert watched([gpu(5)] * 80, gpus=())[1] == []  # not rented
    assert watched([gpu(0), *[gpu(0), gpu(60)] * 40], gpus=None)[1] == []  # 30 % on average


def test_memory_that_is_nearly_exhausted_is_told():
    full = {"system/system_memory_usage_percentage": 93.0}
    _, said, _ = watched([{}, full, full])
    assert len(said) == 1 and "memory is nearly exhausted: 93 %" in said[0]
    _, said, _ = watched([{}, {"system/gpu_1_memory_usage_percentage": 99.0}])
    assert said == ["the memory of GPU 1 is nearly exhausted: 99 %"]


def test_samples_that_are_not_taken_stay_bounded():
    monitor = Monitor(dict, lambda: 0.0)
    for number in range(5000):
        monitor.step(1 + number * EVERY_S, number)
    kept = [sample["step"] for sample in monitor.take()]
    assert 400 < len(kept) <= 1000 and kept[-1] == 4999 and kept == sorted(kept)


def test_one_line_for_people():
    usage = {
        "system/cpu_utilization_percentage": 84.6,
        "system/system_memory_usage_megabytes": 4100.0,
        "system/system_memory_usage_percentage": 12.3,
        "system/gpu_0_utilization_percentage": 31.0,
        "system/gpu_0_memory_usage_percentage": 40.0,
    }
    assert in_words(usage) == "CPU 85 %, memory 4.1 GB (12 %), GPU 31 % (memory 40 %)"
    assert in_words({}) == ""
