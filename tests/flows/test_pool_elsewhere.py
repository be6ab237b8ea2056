"""A work pool that rents elsewhere: the foreign flow over SSH and on both emulated clouds.

The server has a password and an address that is not loopback, as machines elsewhere need it.
"""

from __future__ import annotations

import os
import sys
from urllib.parse import urlsplit

import pytest

from drillyard_emulators.http.handle import AzureEmulator, GcpEmulator
from drillyard_flows.pool.account import Account, Settlement
from tests.flows.conftest import Bench, lease_processes
from tests.helpers import rules
from tests.helpers.azure_lab import AzureLab
from tests.helpers.patience import until
from tests.helpers.pools import Pool, server
from tests.helpers.rented import Lab
from tests.helpers.sshd import SSHD, Sshd

pytestmark = pytest.mark.slow


@pytest.fixture
def pool(prefect_home, tmp_path):
    """A pool with the foreign flow; whatever was rented is given back."""
    with server(prefect_home, tmp_path) as api:
        pool = Pool(api, tmp_path, "elsewhere")
        yield pool
        for folder in pool.store.glob("flow-*"):
            Bench(tmp_path).give_back(folder.name)


@pytest.mark.skipif(SSHD is None, reason="no OpenSSH server on this machine")
def test_over_ssh(pool, tmp_path):
    sshd = Sshd(tmp_path / "host").start()
    try:
        settings = {
            "hosts": [sshd.address],
            "key_file": str(sshd.key),
            "known_hosts": str(sshd.known_hosts),
            "python": sys.executable,
        }
        pool.make(backend="ssh", settings=settings, install_prefect=False)
        pool.deploy()
        run = pool.start(number=3)
        with pool.worker():
            found = pool.ended(run)
            assert found["state"]["type"] == "COMPLETED", pool.log() + str(found["state"])
            assert [one["cost"] for one in pool.settled()] == [0.0]
        ((lease, gone),) = pool.leases().items()
        assert gone and lease_processes(lease) == []
        assert "1 on ssh for" in pool.api.artifacts(found)["drillyard-cost"]["data"]
    finally:
        sshd.stop()


@pytest.mark.parametrize(
    ("emulator", "laptop", "kind"),
    [(GcpEmulator, Lab, "gcp"), (AzureEmulator, AzureLab, "azure")],
    ids=["gcp", "azure"],
)
def test_on_an_emulated_cloud(pool, tmp_path, monkeypatch, emulator, laptop, kind):
    host = str(urlsplit(pool.api.url).hostname)
    with emulator(tmp_path / "cloud") as cloud:
        lab = laptop(cloud, tmp_path, monkeypatch)
        around = ",".join(filter(None, [os.environ.get("NO_PROXY", ""), host]))
        cloud.ask("machine_env", PYTHONPATH=rules.path(), NO_PROXY=around, no_proxy=around)
        given = {f"DRILLYARD_{kind.upper()}_{k}": v for k, v in lab.settings.items()}
        pool.environment = {**cloud.env, **given, "NO_PROXY": around, "no_proxy": around}
        pool.make(backend=kind, store=lab.store, install_prefect=False, max_cost=5.0)
        pool.deploy()
        run = pool.start(number=3)
        try:
            with pool.worker():
                found = pool.ended(run)
                said = pool.log() + str(found["state"]) + lab.serials()
                assert found["state"]["type"] == "COMPLETED", said
                account = Account(lab.store, "elsewhere")
                until(lambda: not account.open(), what="a settlement", every_s=0.5)
            folder = account.folder
            (info,) = folder.store.list(folder.key("settled/"))
            settled = folder.record_at(info.key, Settlement)
            # A cluster of the workspace stays, without a node.
            assert 0 < settled.cost < 5.0 and set(lab.left()) <= {"computes"}
            text = pool.api.artifacts(found)["drillyard-cost"]["data"]
            assert f"1 on {kind} for" in text and f"cost so far {settled.cost:.2f}" in text
        finally:
            lab.close()
