"""One emulated cloud for the tests that leave it as they found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from drillyard.testing.cloud.handle import GcpEmulator


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
