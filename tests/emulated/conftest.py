"""Emulated clouds for the tests that leave them as they found them; machines keep the rules."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from drillyard_emulators.http.handle import Emulator, GcpEmulator
from tests.helpers import rules

_start = Emulator.__init__


def _start_with_rules(self: Emulator, *given: Any, **more: Any) -> None:
    """An emulated machine gets nothing of this process's environment by itself."""
    _start(self, *given, **more)
    self.ask("machine_env", PYTHONPATH=rules.path())


Emulator.__init__ = _start_with_rules  # type: ignore[method-assign]


@pytest.fixture(scope="session")
def shared_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcpEmulator]:
    """For tests that use names of their own and put no world-wide fault in force."""
    with GcpEmulator(tmp_path_factory.mktemp("cloud"), bodies=True) as cloud:
        yield cloud


@pytest.fixture
def cloud(shared_cloud: GcpEmulator) -> Iterator[GcpEmulator]:
    """The shared cloud, without rules left over."""
    yield shared_cloud
    shared_cloud.clear_faults()


@pytest.fixture
def at_cloud(cloud: GcpEmulator, monkeypatch: pytest.MonkeyPatch) -> GcpEmulator:
    """The shared cloud, with this process's environment pointing to it, proxy, tokens and all."""
    for name, value in cloud.env.items():
        monkeypatch.setenv(name, value)
    return cloud


@pytest.fixture
def bucket(cloud: GcpEmulator) -> Any:
    """A bucket of one test."""
    from tests.helpers.storage_client import a_client

    return a_client(cloud).create_bucket(f"b-{uuid.uuid4().hex[:12]}")


@pytest.fixture(scope="module")
def quick_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcpEmulator]:
    """A cloud of one file, whose machines boot at once."""
    with GcpEmulator(tmp_path_factory.mktemp("compute"), bodies=True) as cloud:
        cloud.physics(boot_s=0.05, operation_s=0.02, retry_s=0.1)
        yield cloud


@pytest.fixture
def compute(cloud: GcpEmulator) -> Iterator[Any]:
    """Its clients; no fault is left in force."""
    from tests.helpers.compute_client import Compute

    yield Compute(cloud)
    cloud.clear_faults()
    plain = {"stockouts": [], "false_done": [], "boot_failures": 0, "listing_lag_s": 0.0}
    cloud.physics(**plain, notice_s=30.0, shutdown_s=30.0)
