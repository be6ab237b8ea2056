"""Azure as one process on loopback: ``python -m drillyard_emulators.azure.cloud``.

It prints one JSON line (``env`` to export, ``control`` to talk to) and serves until it is told to
stop or its parent is gone. Tests and ``drillyard rehearse`` use it through
``drillyard_emulators.http.handle.AzureEmulator``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from drillyard_emulators.azure import entra, manager
from drillyard_emulators.azure.answers import refused
from drillyard_emulators.azure.blobs import Blobs
from drillyard_emulators.azure.entra import CLIENT, Entra, Identity
from drillyard_emulators.azure.history import history
from drillyard_emulators.azure.manager import Manager
from drillyard_emulators.azure.mlflow import Mlflow
from drillyard_emulators.azure.model import Job, Site
from drillyard_emulators.azure.world import World
from drillyard_emulators.http.clock import EmulatedClock
from drillyard_emulators.http.control import Verb
from drillyard_emulators.http.emulator import Loopback, change, exported, parser, serve
from drillyard_emulators.http.faults import Faults
from drillyard_emulators.http.fields import Document, member, members, number, text, texts
from drillyard_emulators.http.machines import Machine
from drillyard_emulators.http.wire import App, Listener, Request, Response

ACCOUNT = "rehearsalstore"
CONTAINER = "azureml-blobstore-00000000"
ARTIFACTS = "1-azureml"
"""Container of what jobs print: it begins with the workspace's id where data is isolated."""
NODE, STRANGER = "drillyard-node", "no-role"
"""Identities of the resource group: for the nodes; and one that may not use the storage."""


def identity_id(name: str) -> str:
    """Resource id of a user-assigned identity."""
    return (
        f"/subscriptions/{Manager.subscription}/resourceGroups/{Manager.group}/providers/"
        f"Microsoft.ManagedIdentity/userAssignedIdentities/{name}"
    )


class Azure(Loopback):
    """All services, wired together.

    Args:
        folder: Its own folder.
        speed: Emulated seconds a real second.
        seed: Seed of the random faults.
        bodies: Record JSON bodies.
        image: The virtual environment that plays the image of every environment.
    """

    def __init__(
        self,
        folder: Path,
        speed: float = 1.0,
        seed: int = 0,
        bodies: bool = False,
        image: Path | None = None,
    ) -> None:
        super().__init__(folder, Faults(seed, refused), EmulatedClock(speed), bodies)
        self.entra = Entra()
        self.entra.identities = {
            identity_id(NODE).lower(): Identity(),
            identity_id(STRANGER).lower(): Identity(stores=False),
        }
        self.blobs = Blobs(ACCOUNT, folder, self._authority, self.entra, self._on_blob)
        self.blobs.make_container(CONTAINER)
        self.blobs.make_container(ARTIFACTS)
        self._image = image or Path(sys.prefix)
        self.world = World(self.clock, Site(folder, self._job_env, self._keep, self.boot))
        self.occur(self.world.happen)
        self.manager = Manager(
            self.world, self.entra, self.blobs, (CONTAINER, ARTIFACTS), self._machine_env
        )
        self._history = history(self.manager.access, self.world, self.entra)
        self._mlflow = Mlflow(folder, self.entra, lambda: self.manager.root)
        self._identity = Listener.of(self.entra.managed)
        apps: dict[str, App] = {
            entra.HOST: self.entra,
            self.blobs.host: self.blobs,
            manager.HOST: self.manager,
            f"{Manager.location}.api.azureml.ms": self._of_region,
            f"*.{Manager.location}.inference.ml.azure.com": self.manager.online,
        }
        self.open_doors(apps, self._verbs())

    def env(self) -> dict[str, str]:
        """The environment of a client; nothing else differs from the real cloud."""
        return {**self.network_env(), **self.entra.env()}

    def greeting(self) -> Document:
        """The one line that is printed."""
        return {
            "env": self.env(),
            "control": self.control_url,
            "folder": str(self.folder),
            "mark": self.mark,
            "account": ACCOUNT,
            "container": CONTAINER,
            "workspace": {
                "subscription_id": Manager.subscription,
                "resource_group": Manager.group,
                "workspace_name": Manager.workspace,
            },
            "identity": identity_id(NODE),
        }

    def state(self, _: Document) -> Document:
        """Everything that exists."""
        refused = {"refused_tokens": self.entra.refused}
        return {**self.world.state(), **self.manager.online.state(), **refused, **self.seen()}

    def close(self) -> None:
        """End all of it, the nodes first."""
        self.world.close()
        self.manager.online.close()
        self._identity.close()
        super().close()
        self.blobs.close()

    def boot(self, *given: Any) -> Machine:
        """Starts a node's container: see ``Machine``."""
        return Machine(*given)

    def _of_region(self, request: Request) -> Response:
        """The workspace's own services."""
        of_mlflow = request.path.startswith("/mlflow/")
        return (self._mlflow if of_mlflow else self._history)(request)

    def _on_blob(self, caller: str, name: str) -> None:
        self.triggers.on_object(None if caller == CLIENT else caller, name)

    def _keep(self, job: str, name: str, data: bytes) -> None:
        self.blobs.write(ARTIFACTS, f"ExperimentRun/dcid.{job}/{name}", data)

    def _job_env(self, job: Job) -> dict[str, str]:
        """What a job's processes find on their node: an identity, the way out, a home."""
        # Without `Managed` a job has a token of its user, which its node's endpoint does not give.
        managed = member(job.properties, "identity").get("identityType") == "Managed"
        return {
            **self._machine_env(f"{job.name}-{job.times}"),
            **self._of_node(job.name, self._identity_on(job.compute) if managed else None),
        }

    def _of_node(self, job: str, identity: Identity | None) -> dict[str, str]:
        return {
            "MSI_ENDPOINT": f"http://{self._identity.address}/msi/token",
            **self.entra.identity_of(job, identity),
            **self.network_env(),
            **self._machine_extra,
        }

    def _identity_on(self, compute: str) -> Identity | None:
        """The identity of a cluster's jobs; its own new identity has no role anywhere."""
        cluster = self.world.computes.get(compute)
        kind, assigned = ("none", []) if cluster is None else cluster.identity
        if "userassigned" in kind and assigned:
            return self.entra.identity(assigned[0])
        if "systemassigned" not in kind:
            return None
        return self.entra.identities.setdefault(f"system of {compute}", Identity(stores=False))

    def _make_identity(self, document: Document) -> None:
        """A user-assigned identity with the blob role; ``containers``: on these alone."""
        on = texts(document, "containers") if "containers" in document else None
        for container in on or ():
            self.blobs.make_container(container)
        self.entra.identities[str(document["id"]).lower()] = Identity(containers=on)

    def _machine_env(self, name: str) -> dict[str, str]:
        """What every machine has."""
        path = f"{self._image}/bin:/usr/local/bin:/usr/bin:/bin"
        return {**self.machine_env(self.folder / "machines" / name), "PATH": path}

    def _verbs(self) -> dict[str, Verb]:
        return {
            **self.common(self.state, self.world.scheduler),
            "objects": lambda a: self.blobs.names(str(a["container"]), text(a, "prefix")),
            "entra": lambda a: _assign(a, self.entra),
            "physics": self._set_physics,
            "manager": lambda a: _assign(a, self.manager, self.manager.access),
            "cluster": self._set_cluster,
            "job": self._set_job,
            "node": self._node,
            "finish": self._finish,
            "access": self._set_access,
            "around": lambda a: _assign(a, self.manager.around, self.blobs),
            "identity": self._make_identity,
            "serial": self._serial,
            "environment": lambda a: self.world.environments.update({str(a["name"]): {}}),
            "export": self._export,
        }

    def _set_physics(self, asked: Document) -> None:
        with self.world.lock:
            change(self.world.physics, asked)
            self.world.nodes.place()  # there may be nodes for jobs that wait

    def _set_cluster(self, asked: Document) -> None:
        """Changes a cluster: ``state``, ``errors``, ``identity``."""
        with self.world.lock:
            cluster = self.world.computes[str(asked["name"])]
            cluster.state = text(asked, "state", cluster.state)
            if "errors" in asked:
                cluster.errors = [
                    {key: str(value) for key, value in error.items()}
                    for error in members(asked, "errors")
                ]
            if "identity" in asked:
                cluster.document["identity"] = asked["identity"]

    def _set_job(self, asked: Document) -> None:
        """Archives or deletes a job, as a person can in the studio."""
        with self.world.lock:
            self.world.jobs[str(asked["name"])].archived = bool(asked.get("archived"))
            if asked.get("deleted"):
                self.world.nodes.forget(str(asked["name"]))

    def _finish(self, asked: Document) -> None:
        """Ends a job that runs no processes, with this exit code."""
        with self.world.lock:
            job = self.world.jobs[str(asked["name"])]
            self.world.nodes.finish(job, int(number(asked, "code")))

    def _node(self, asked: Document) -> dict[str, str]:
        """The environment of a job's processes on a node of a cluster with this identity."""
        name = asked["identity"]
        identity = None if name is None else self.entra.identity(identity_id(str(name)))
        return {**self._of_node("a-node", identity), **self._machine_env("a-node")}

    def _set_access(self, asked: Document) -> list[list[str]]:
        """Sets permissions by scope; returns the operations since the last call."""
        access = self.manager.access
        _assign(asked, access)
        before, access.asked = sorted(access.asked), set()
        return [list(operation) for operation in before]

    def _serial(self, asked: Document) -> str:
        """The output of a job's processes on all its nodes, also after its end."""
        logs = sorted((self.folder / "serial").glob(f"{asked['machine']}-*.log"))
        return "".join(path.read_text(errors="replace") for path in logs)

    def _export(self, asked: Document) -> int:
        """Write the blobs below a prefix into a folder; how many."""
        container = str(asked["container"])
        names = self.blobs.names(container, text(asked, "prefix").strip("/"))
        return exported(asked, names, lambda name: self.blobs.read(container, name) or b"")


def _assign(asked: Document, target: object, other: object = None) -> None:
    """Sets attributes of a target, or else of another; a list becomes a set where it is one."""
    for name, value in asked.items():
        owner = target if hasattr(target, name) else other
        is_set = isinstance(getattr(owner, name), set)
        setattr(owner, name, {*value} if is_set and isinstance(value, list) else value)


def main(arguments: list[str] | None = None, make: type[Azure] = Azure) -> int:
    """Serves until a signal arrives.

    Args:
        arguments: The command line.
        make: What is served.
    """
    a = parser("drillyard_emulators.azure.cloud").parse_args(arguments)
    return serve(lambda: make(a.folder, a.speed, a.seed, a.bodies, a.image), a.parent)


if __name__ == "__main__":
    sys.exit(main())
