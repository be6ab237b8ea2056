"""Google Cloud on loopback: ``python -m drillyard_emulators.gcp.cloud --folder DIR``.

It prints one JSON line (``env`` to export, ``control`` to talk to) and serves until it is told to
stop, its parent is gone or its standard input ends. Tests and ``drillyard rehearse`` use it
through ``drillyard_emulators.http.handle.GcpEmulator``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from drillyard_emulators.gcp.compute.catalogue import REGIONS
from drillyard_emulators.gcp.compute.model import Instance
from drillyard_emulators.gcp.compute.service import ComputeService
from drillyard_emulators.gcp.compute.world import World
from drillyard_emulators.gcp.gcs.objects import Storage
from drillyard_emulators.gcp.gcs.service import StorageService
from drillyard_emulators.gcp.grants import read_grants
from drillyard_emulators.gcp.metadata import MetadataService
from drillyard_emulators.gcp.project import Project, key_file, machine_of
from drillyard_emulators.gcp.rights import rights_services, token_endpoint
from drillyard_emulators.http.clock import EmulatedClock
from drillyard_emulators.http.control import Verb
from drillyard_emulators.http.emulator import Loopback, exported, parser, serve
from drillyard_emulators.http.faults import Faults
from drillyard_emulators.http.fields import Document, member, number, number_fields, texts
from drillyard_emulators.http.machines import Machine
from drillyard_emulators.http.wire import App, Listener


class Cloud(Loopback):
    """All services, wired together.

    Args:
        folder: Its own folder: certificates, keys, the machines' folders.
        project: Id of the project.
        speed: Emulated seconds a real second; 0 stands still.
        seed: Seed of the random faults.
        bodies: Record JSON bodies, for the check against Google's documents.
        image: The virtual environment that plays the machines' image.
    """

    def __init__(
        self,
        folder: Path,
        project: str = "emulated-project",
        speed: float = 1.0,
        seed: int = 0,
        bodies: bool = False,
        image: Path | None = None,
    ) -> None:
        super().__init__(folder, Faults(seed), EmulatedClock(speed), bodies)
        self.project = Project(project)
        self.storage = Storage(self.clock)
        self._image = image or Path(sys.prefix)
        self.world = World(self.clock, self.project, self.faults, folder, self.boot)
        self.occur(self.world.happen)
        self.storage.finalised.append(
            lambda caller, stored: self.triggers.on_object(
                machine_of(caller), f"{stored.bucket}/{stored.name}"
            )
        )
        self._metadata = Listener.of(self.served(MetadataService(self.world)))
        self.open_doors(self._apps(), self.verbs())
        self.key = folder / "key.json"
        self.key.write_text(json.dumps(key_file(self.project)))
        self.key.chmod(0o600)
        self._plain = Listener.of(self.served(StorageService(self.storage)))

    def env(self) -> dict[str, str]:
        """The environment of a client; nothing else differs from the real cloud."""
        return {
            **self.network_env(),
            "GOOGLE_APPLICATION_CREDENTIALS": str(self.key),
            "GOOGLE_CLOUD_PROJECT": self.project.project_id,
            "NO_GCE_CHECK": "true",
        }

    def greeting(self) -> Document:
        """The one line that is printed."""
        return {
            "env": self.env(),
            "control": self.control_url,
            "storage": f"http://{self._plain.address}",
            "project": self.project.project_id,
            "service_account": self.project.worker,
            "folder": str(self.folder),
            "mark": self.mark,
        }

    def state(self, _: Document) -> Document:
        """Everything that exists, and everything that ever did and costs."""
        with self.storage.lock:
            buckets: Document = {
                name: {
                    "document": bucket.document,
                    "objects": len(bucket.live),
                    "bytes": sum(len(o.data) for o in bucket.live.values()),
                }
                for name, bucket in self.storage.buckets.items()
            }
        return {**self.world.state(), "buckets": buckets, **self.seen()}

    def close(self) -> None:
        """End all of it, the machines first."""
        self.world.close()
        self._metadata.close()
        self._plain.close()
        super().close()

    def boot(self, instance: Instance, folder: Path, serial: Path) -> Machine:
        """Starts a machine."""
        return Machine(
            instance.name,
            str(instance.instance_id),
            folder,
            serial,
            self._machine_env(instance, folder),
            instance.metadata.get("startup-script", ""),
            instance.metadata.get("shutdown-script", ""),
        )

    def _machine_env(self, instance: Instance, folder: Path) -> dict[str, str]:
        """What a machine's processes find: its identity, the way out, a home of its own."""
        identity = f"{self._metadata.address}/vm/{instance.instance_id}"
        return {
            **self.machine_env(folder),
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "DRILLYARD_PREFIX": str(self._image),
            "GCE_METADATA_HOST": identity,
            "GCE_METADATA_IP": identity,
            **self.network_env(),
            **self._machine_extra,
        }

    def _apps(self) -> dict[str, App]:
        storage = StorageService(self.storage, self.project.may, self.project.number)
        compute = ComputeService(self.world)
        return {
            "storage.googleapis.com": self.project.guarded(storage, "storage.googleapis.com"),
            "compute.googleapis.com": self.project.guarded(compute, "compute.googleapis.com"),
            "oauth2.googleapis.com": token_endpoint(self.project),
            **rights_services(self.project),
        }

    def verbs(self) -> dict[str, Verb]:
        """The verbs of this cloud's control port; subclasses add more."""
        return {
            **self.common(self.state, self.world.scheduler),
            "physics": self.world.set_physics,
            "catalogue": self._set_catalogue,
            "serial": self._serial,
            "project": self._set_project,
            "bucket": self._set_bucket,
            "storage": self._set_storage,
            "objects": self._objects,
            "template": self._set_template,
            "export": self._export,
        }

    def _set_project(self, asked: Document) -> None:
        for key in ("denied", "disabled", "accounts"):
            if key in asked:
                setattr(self.project, key, set(texts(asked, key)))
        if "granted" in asked:
            granted = member(asked, "granted")
            self.project.granted = {who: list(read_grants(granted[who])) for who in granted}

    def _set_catalogue(self, asked: Document) -> None:
        with self.world.lock:
            catalogue = self.world.catalogue
            catalogue.missing |= set(texts(asked, "missing"))
            catalogue.networks |= set(texts(asked, "networks"))
            for region in REGIONS:
                catalogue.quotas.setdefault(region, {}).update(number_fields(asked, "all_quotas"))
            catalogue.images |= set(texts(asked, "images"))
            if "image_labels" in asked:
                labels = member(asked, "image_labels")
                catalogue.image_labels = {name: str(value) for name, value in labels.items()}
            catalogue.zones = texts(asked, "zones") if "zones" in asked else catalogue.zones
            quotas = member(asked, "quotas")
            for region in quotas:
                catalogue.quotas.setdefault(region, {}).update(number_fields(quotas, region))

    def _serial(self, asked: Document) -> str:
        """The output of a machine's serial port, also after its end (the newest of that name)."""
        folder = self.folder / "serial"
        logs = sorted(folder.glob(f"{asked['machine']}-*.log"), key=lambda p: p.stat().st_mtime)
        return logs[-1].read_text(errors="replace") if logs else ""

    def _set_bucket(self, asked: Document) -> None:
        if owner := asked.get("owner"):
            self.storage.foreign[str(asked["name"])] = str(owner)
            return
        name = str(asked["name"])
        if name not in self.storage.buckets:
            self.storage.create({"name": name})
        self.storage.bucket(name).document.update(member(asked, "document"))

    def _set_storage(self, asked: Document) -> None:
        self.storage.writes_per_s = number(asked, "writes_per_s")

    def _set_template(self, asked: Document) -> None:
        disk: Document = {
            "boot": True,
            "autoDelete": True,
            "initializeParams": {"diskSizeGb": "20"},
        }
        usual: Document = {
            "machineType": "n2-highcpu-8",
            "disks": [disk],
            "networkInterfaces": [{"network": "global/networks/default"}],
        }
        self.world.furnish(str(asked["name"]), {**usual, **member(asked, "properties")})

    def _export(self, asked: Document) -> int:
        """Write the objects below a prefix into a folder; how many."""
        with self.storage.lock:
            bucket = self.storage.buckets.get(str(asked["bucket"]))
            live = {} if bucket is None else dict(bucket.live)
        return exported(asked, live, lambda name: live[name].data)

    def _objects(self, asked: Document) -> list[str]:
        with self.storage.lock:
            bucket = self.storage.buckets.get(str(asked["bucket"]))
            return [] if bucket is None else list(bucket.names)


def main(arguments: list[str] | None = None, make: type[Cloud] = Cloud) -> int:
    """Serves until a signal arrives.

    Args:
        arguments: The command line.
        make: What is served.
    """
    words = parser("drillyard_emulators.gcp.cloud")
    words.add_argument("--project", default="emulated-project")
    a = words.parse_args(arguments)
    return serve(lambda: make(a.folder, a.project, a.speed, a.seed, a.bodies, a.image), a.parent)


if __name__ == "__main__":
    sys.exit(main())
