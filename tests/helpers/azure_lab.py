"""The emulated Azure for tests; skipped where Azurite is not installed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drillyard.backend import Lease, Liveness, Order
from drillyard.errors import UserError
from drillyard.leases.release import release_confirmed
from drillyard.mailbox import Mailbox
from drillyard.runs.wheels import THIS_PYTHON
from drillyard_backends.azure.backend import AzureBackend
from drillyard_emulators.azure.blobs import find
from drillyard_emulators.azure.model import OVER
from drillyard_emulators.http.handle import AzureEmulator
from tests.helpers.patience import until
from tests.helpers.rented import Lab


def needs_azurite() -> pytest.MarkDecorator:
    """Marks a module whose tests need it."""
    try:
        find()
    except UserError as error:
        return pytest.mark.skip(reason=f"{error} ({error.hint})")
    return pytest.mark.skipif(False, reason="")


def opened(folder: Path, **options: object) -> Iterator[AzureEmulator]:
    """An emulator with this process pointing to it, as a fixture's body."""
    patch = pytest.MonkeyPatch()
    with AzureEmulator(folder, **options) as cloud, patch.context() as context:  # type: ignore[arg-type]
        point(context, cloud)
        yield cloud


def named(cloud: AzureEmulator, **more: Any) -> dict[str, Any]:
    """Settings of the backend that name the emulated workspace."""
    where = cloud.workspace
    return {
        "subscription_id": where["subscription_id"],
        "resource_group": where["resource_group"],
        "workspace": where["workspace_name"],
        "identity": cloud.identity,
        "listing_lag_s": "0",
        **more,
    }


def reactor(name: str, steps: int, seeds: str = "[1]", workers: str = "", more: str = "") -> str:
    """The text of an experiment that trains the reactor for some steps.

    Args:
        name: Of the experiment.
        steps: Of each run.
        seeds: As a list of YAML.
        workers: ``workers: 2, ``, or none.
        more: Further lines.
    """
    return f"""schema: 1
name: {name}
workload: rl
simulator: {{id: cstr}}
learner: {{algorithm: ppo, args: {{n_steps: 64, batch_size: 64}}}}
train: {{steps: {steps}, n_envs: 1, checkpoint_every: 256}}
evaluate: {{episodes: 1}}
seeds: {seeds}
baselines: []
resources: {{{workers}threads: 1, device: cpu}}
budget: {{max_hours: 1, max_cost: 1}}
{more}
"""


OWN_CLUSTER = "backends: {azure: {compute: null}}"
"""A line of an experiment: the lease's own, deleted with it."""


def order_of(backend: AzureBackend, workers: int = 1, **more: Any) -> Order:
    """An order of a lease of its own."""
    lease = f"dy-{uuid.uuid4().hex[:9]}a"  # not digits alone, which Azure may refuse
    return Order(
        lease_id=lease, experiment="faults", workers=workers, store_url=backend.store_url(), **more
    )


def another(backend: AzureBackend) -> AzureBackend:
    """The same backend in a process that knows nothing."""
    return AzureBackend(**backend.config.model_dump(exclude_unset=True))


def rented(backend: AzureBackend, order: Order) -> Lease:
    """A lease whose cluster is there."""
    lease = backend.provision(order)
    until(lambda: backend.probe(lease) is Liveness.ALIVE, what="the cluster")
    return lease


def gone(azure: AzureEmulator, backend: AzureBackend, lease: Lease) -> None:
    """End a lease as the driver does; by the emulator's own books nothing of it is left."""
    release_confirmed(backend, lease, timeout_s=60.0)
    state = azure.state()
    assert lease.lease_id not in state["computes"]
    nodes = [n for n in state["nodes"] if n["job"].startswith(lease.lease_id)]
    assert not [n for n in nodes if n["gone"] is None]
    assert set(statuses(azure, lease).values()) <= set(OVER)


def statuses(azure: AzureEmulator, lease: Lease) -> dict[str, str]:
    """The states of a lease's jobs by their names."""
    found = azure.state()["jobs"].items()
    return {name: job["status"] for name, job in found if name.startswith(lease.lease_id)}


class AzureLab(Lab):
    """A user's laptop beside an emulated Azure."""

    kind = "AZURE"

    def made(self) -> dict[str, str]:
        """What the workspace has for the user."""
        where = self.cloud.workspace
        self.prefix = f"lab-{os.urandom(4).hex()}"
        return {
            "SUBSCRIPTION_ID": where["subscription_id"],
            "PREFIX": self.prefix,
            "RESOURCE_GROUP": where["resource_group"],
            "WORKSPACE": where["workspace_name"],
            "IMAGE": "mcr.example/drillyard:1",
            "PYTHON": THIS_PYTHON,
            "IDENTITY": self.cloud.identity,
            "LISTING_LAG_S": "0",
        }

    @property
    def store(self) -> str:
        """URL of the mailbox."""
        return f"az://{self.cloud.account}/{self.cloud.container}/{self.prefix}"

    def left(self) -> dict[str, Any]:
        """What is there that costs money, by the emulator's own books."""
        state = self.cloud.state()
        jobs = {n: j["status"] for n, j in state["jobs"].items() if j["status"] not in OVER}
        nodes = [n["name"] for n in state["nodes"] if n["gone"] is None]
        found = {"computes": state["computes"], "jobs": jobs, "nodes": nodes}
        return {name: value for name, value in found.items() if value}

    def serials(self) -> str:
        """The logs of all jobs, for a failing test."""
        names = self.cloud.state()["jobs"]
        return "".join(f"\n== {name}\n{self.cloud.serial(name)[-3000:]}" for name in names)


def point(patch: pytest.MonkeyPatch, cloud: AzureEmulator) -> None:
    """Let this process see the emulated Azure; tokens of another one are forgotten."""
    from drillyard_backends.azure.login import credential

    for name, value in cloud.env.items():
        patch.setenv(name, value)
    credential.cache_clear()


def at_work(lab: AzureLab, experiment: str) -> Mailbox:
    """The experiment, as soon as one of its jobs has written a checkpoint."""
    mailbox = lab.mailbox(experiment)

    def checkpoints() -> bool:
        return any("/checkpoints/" in key for key in mailbox.store.keys(f"{experiment}/runs/"))

    until(checkpoints, what="a checkpoint")
    return mailbox
