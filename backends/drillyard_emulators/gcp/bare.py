"""Google Cloud with bare machines: ``python -m drillyard_emulators.gcp.bare --image ROOT``.

A machine sees what a machine of Google's without a public address sees: the metadata server and
resolver at their real address, Google's services at an address of Google's, and nothing else.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from drillyard_emulators.bare.machine import BareMachine, Hardware
from drillyard_emulators.bare.network import METADATA, Fabric
from drillyard_emulators.gcp.cloud import Cloud, main
from drillyard_emulators.gcp.compute.model import Instance
from drillyard_emulators.gcp.metadata import MetadataService
from drillyard_emulators.gcp.registry import HOST, Registry
from drillyard_emulators.http.control import Verb
from drillyard_emulators.http.fields import Document, number, text
from drillyard_emulators.http.machines import EMULATOR_MARK, Machine
from drillyard_emulators.http.wire import App, Listener, Request, Response, converse


class BareCloud(Cloud):
    """All services of ``Cloud``; its image is a root filesystem."""

    def open_doors(self, apps: Mapping[str, App], verbs: Mapping[str, Verb]) -> None:
        """Starts to serve, in the network of the machines too."""
        registry = Registry(self.project, self.folder / "registry")
        apps = {**apps, HOST: registry, "artifactregistry.googleapis.com": registry.policy}
        self._fabric = Fabric({EMULATOR_MARK: self.mark}, apps)
        self._hardware = Hardware(self._image)
        self._machine_ids: dict[str, int] = {}
        served = {host: self.served(app) for host, app in apps.items()}
        tls = self._authority.server(sorted(served))
        metadata = self.served(MetadataService(self.world))

        def plain(connection: socket.socket) -> None:
            machine = self._machine_ids.get(connection.getpeername()[0], 0)

            def identified(request: Request) -> Response:
                request.path = f"/vm/{machine}{request.path}"
                return metadata(request)

            converse(connection, identified)

        self._bare_doors = [
            self._fabric.serve(tls, served),
            Listener(plain, self._fabric.listen(METADATA, 80)),
        ]
        super().open_doors(apps, verbs)

    def close(self) -> None:
        """End all of it, the machines first."""
        super().close()
        for door in self._bare_doors:
            door.close()
        self._fabric.close()

    def verbs(self) -> dict[str, Verb]:
        """The verbs of this cloud's control port."""
        return {**super().verbs(), "hardware": self._set_hardware, "network": self._set_network}

    def boot(self, instance: Instance, folder: Path, serial: Path) -> Machine:
        """Starts a machine."""
        machine = BareMachine(
            instance.name,
            str(instance.instance_id),
            folder,
            serial,
            {EMULATOR_MARK: self.mark},
            instance.metadata.get("startup-script", ""),
            instance.metadata.get("shutdown-script", ""),
            self._fabric,
            self.bundle,
            self._hardware,
        )
        self._machine_ids[machine.address] = instance.instance_id

        def watch() -> None:
            machine.wait_off()
            with self.world.lock:
                self.world.instances.crash(instance)  # unless its end has been asked for

        threading.Thread(target=watch, daemon=True, name=f"watch {instance.name}").start()
        return machine

    def _set_hardware(self, asked: Document) -> None:
        """What machines have that boot from now on."""
        usual = Hardware(self._image)
        self._hardware = Hardware(
            Path(text(asked, "root", str(usual.root))),
            int(number(asked, "disk_mb", usual.disk_mb)),
            int(number(asked, "memory_mb", usual.memory_mb)),
            int(number(asked, "clock_s", usual.clock_s)),
            text(asked, "driver", usual.driver),
            int(number(asked, "driver_after_s", usual.driver_after_s)),
        )

    def _set_network(self, asked: Document) -> None:
        self._fabric.silence_names(bool(asked.get("silent_names")))
        if asked.get("no_google"):
            self._fabric.cut_google()


if __name__ == "__main__":
    sys.exit(main(make=BareCloud))
