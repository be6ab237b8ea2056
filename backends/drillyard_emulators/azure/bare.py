"""Azure with bare nodes: ``python -m drillyard_emulators.azure.bare --image ROOT``.

A job runs in the root filesystem of its environment's image, with the image's variables and those
that Azure ML gives. It reaches the emulated services at their own names, and nothing else.
"""

from __future__ import annotations

import shlex
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from drillyard_emulators.azure.cloud import Azure, main
from drillyard_emulators.azure.model import Job
from drillyard_emulators.bare.machine import BareMachine, Hardware
from drillyard_emulators.bare.network import METADATA, Fabric
from drillyard_emulators.http.control import Verb
from drillyard_emulators.http.fields import Document, text_fields
from drillyard_emulators.http.machines import EMULATOR_MARK, Machine
from drillyard_emulators.http.wire import App, Listener, converse


class BareAzure(Azure):
    """All services of ``Azure``; the image of every environment is a root filesystem."""

    def open_doors(self, apps: Mapping[str, App], verbs: Mapping[str, Verb]) -> None:
        """Starts to serve, in the network of the nodes too."""
        served = {host: self.served(app) for host, app in apps.items() if "*" not in host}
        self._fabric = Fabric({EMULATOR_MARK: self.mark}, served)
        self._variables: dict[str, str] = {}
        tls = self._authority.server(sorted(served))

        def plain(connection: socket.socket) -> None:
            converse(connection, self.entra.managed)

        self._bare_doors = [
            self._fabric.serve(tls, served),
            Listener(plain, self._fabric.listen(METADATA, 80)),
        ]
        super().open_doors(apps, {**verbs, "variables": self._set_variables})

    def close(self) -> None:
        """Ends all of it, the nodes first."""
        super().close()
        for door in self._bare_doors:
            door.close()
        self._fabric.close()

    def boot(
        self, name: str, number: str, folder: Path, serial: Path, env: Mapping[str, str], job: str
    ) -> Machine:
        """Starts a node's container."""
        lines = [f"export {key}={shlex.quote(value)}" for key, value in env.items()]
        mark = {EMULATOR_MARK: self.mark}
        first, _, command = job.partition("\n")
        script = "\n".join([first, *lines, command])
        return BareMachine(
            name,
            number,
            folder,
            serial,
            mark,
            script,
            "",
            self._fabric,
            self.bundle,
            Hardware(self._image),
            container=True,
        )

    def _job_env(self, job: Job) -> dict[str, str]:
        """What a job's processes find: the image's variables, and an identity."""
        env = super()._job_env(job)
        identity = {key: env[key] for key in ("MSI_SECRET", "DEFAULT_IDENTITY_CLIENT_ID")}
        where = f"http://{METADATA}/msi/token"
        return {**self._variables, **identity, "MSI_ENDPOINT": where}

    def _set_variables(self, asked: Document) -> None:
        """The variables of the image."""
        self._variables = text_fields(asked, "variables")


if __name__ == "__main__":
    sys.exit(main(make=BareAzure))
