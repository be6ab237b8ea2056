"""Google Cloud as one process on loopback: ``python -m drillyard.testing.cloud.gcp --folder DIR``.

It prints one JSON line (``env`` to export, ``control`` to talk to) and serves until it is told to
stop, its parent is gone or its standard input ends. Tests and ``drillyard rehearse`` use it
through ``drillyard.testing.cloud.handle.GcpEmulator``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import uuid
from email.utils import formatdate
from pathlib import Path
from typing import Any

from drillyard.testing.cloud.clock import EmulatedClock
from drillyard.testing.cloud.compute.catalogue import REGIONS
from drillyard.testing.cloud.compute.model import Instance
from drillyard.testing.cloud.compute.service import ComputeService
from drillyard.testing.cloud.compute.world import World
from drillyard.testing.cloud.control import Control
from drillyard.testing.cloud.faults import FaultRule, Faults
from drillyard.testing.cloud.gcs.objects import Storage
from drillyard.testing.cloud.gcs.service import StorageService
from drillyard.testing.cloud.machines import EMULATOR_MARK, Guard
from drillyard.testing.cloud.metadata import MetadataService
from drillyard.testing.cloud.project import Project, key_file
from drillyard.testing.cloud.proxy import Proxy
from drillyard.testing.cloud.recording import Recorder
from drillyard.testing.cloud.rights import rights_services, token_endpoint
from drillyard.testing.cloud.tls import Authority
from drillyard.testing.cloud.triggers import Trigger, Triggers, happen
from drillyard.testing.cloud.wire import App, Listener, Refusal, Request, Response


class Cloud:
    """All services, wired together.

    Args:
        folder: Of its own: certificates, keys, the machines' folders.
        project: Id of the project.
        speed: Emulated seconds a real second; 0 stands still.
        seed: Of the random faults.
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
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.clock = EmulatedClock(speed)
        self.project = Project(project)
        self.faults = Faults(seed)
        self.recorder = Recorder(self.clock, bodies)
        self.storage = Storage(self.clock)
        self.mark = uuid.uuid4().hex
        self._machine_extra: dict[str, str] = {}
        self._image = image or Path(sys.prefix)
        self._guard = Guard(self.mark)
        self.world = World(self.clock, self.project, self.faults, folder, self._machine_env)
        self.triggers = Triggers(self.world)
        self.storage.finalised.append(self.triggers.on_object)
        self._metadata = Listener.of(self._served(MetadataService(self.world)))
        apps = self._apps()
        authority = Authority()
        self.proxy = Proxy(authority.server(sorted(apps)), apps)
        self.bundle = authority.write_bundle(folder / "ca.pem")
        self.key = folder / "key.json"
        self.key.write_text(json.dumps(key_file(self.project)))
        self.key.chmod(0o600)
        self._plain = Listener.of(self._served(StorageService(self.storage)))
        self._control = Listener.of(Control(self._verbs()))

    def env(self) -> dict[str, str]:
        """What a client's environment needs; nothing else tells it from the real cloud."""
        return {
            **self.network_env(),
            "GOOGLE_APPLICATION_CREDENTIALS": str(self.key),
            "GOOGLE_CLOUD_PROJECT": self.project.project_id,
            "NO_GCE_CHECK": "true",
        }

    def network_env(self) -> dict[str, str]:
        """The way to the emulated hosts, and trust in their certificates."""
        bundle, proxy, here = str(self.bundle), self.proxy.url, "127.0.0.1,localhost"
        return {
            "HTTPS_PROXY": proxy,
            "https_proxy": proxy,
            "NO_PROXY": here,
            "no_proxy": here,
            "REQUESTS_CA_BUNDLE": bundle,
            "SSL_CERT_FILE": bundle,
            "CURL_CA_BUNDLE": bundle,
        }

    def greeting(self) -> dict[str, Any]:
        """The one line that is printed."""
        return {
            "env": self.env(),
            "control": f"http://{self._control.address}",
            "storage": f"http://{self._plain.address}",
            "project": self.project.project_id,
            "service_account": self.project.worker,
            "folder": str(self.folder),
        }

    def state(self, _: dict[str, Any]) -> dict[str, Any]:
        """Everything that exists, and everything that ever did and costs."""
        with self.storage.lock:
            buckets = {
                name: {
                    "document": bucket.document,
                    "objects": len(bucket.live),
                    "bytes": sum(len(o.data) for o in bucket.live.values()),
                }
                for name, bucket in self.storage.buckets.items()
            }
        return {
            "now": self.clock.now(),
            **self.world.state(),
            "triggers": self.triggers.all(),
            "buckets": buckets,
            "faults": self.faults.rules(),
            "hosts": dict(self.proxy.asked),
            "refused_hosts": self.proxy.refused,
        }

    def close(self) -> None:
        """End all of it, the machines first."""
        self.world.close()
        self._metadata.close()
        self.proxy.close()
        self._plain.close()
        self._control.close()
        self._guard.close()

    def _machine_env(self, instance: Instance, folder: Path) -> dict[str, str]:
        """What a machine's processes find: its identity, the way out, a home of its own."""
        identity = f"{self._metadata.address}/vm/{instance.instance_id}"
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(folder),
            "TMPDIR": str(folder / "tmp"),
            "DRILLYARD_PREFIX": str(self._image),
            "GCE_METADATA_HOST": identity,
            "GCE_METADATA_IP": identity,
            EMULATOR_MARK: self.mark,
            **self.network_env(),
            **self._machine_extra,
        }

    def _apps(self) -> dict[str, App]:
        storage = StorageService(self.storage, self.project.may, self.project.number)
        compute = ComputeService(self.world)
        apps: dict[str, App] = {
            "storage.googleapis.com": self._authenticated(storage, "storage.googleapis.com"),
            "compute.googleapis.com": self._authenticated(compute, "compute.googleapis.com"),
            "oauth2.googleapis.com": token_endpoint(self.project),
            **rights_services(self.project),
        }
        return {host: self._served(app) for host, app in apps.items()}

    def _served(self, app: App) -> App:
        return self.recorder.around(self.faults.around(self._dated(app)))

    def _dated(self, app: App) -> App:
        """Answers tell this world's time: clients judge the age of objects by it."""

        def served(request: Request) -> Response:
            answer = app(request)
            answer.headers.setdefault("Date", formatdate(self.clock.now(), usegmt=True))
            return answer

        return served

    def _authenticated(self, app: App, service: str) -> App:
        def served(request: Request) -> Response:
            try:
                # A signed URL carries its right with it.
                if "X-Goog-Signature" not in request.query:
                    request.caller = self.project.identify(request)
                self.project.need_service(service)
            except Refusal as refusal:
                return refusal.response()
            return app(request)

        return served

    def _verbs(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "log": lambda a: self.recorder.exchanges(a.get("match", ""), a.get("since", 0)),
            "fault": lambda a: self.faults.add(FaultRule.model_validate(a)),
            "clear_faults": lambda _: self.faults.clear(),
            "advance": self._advance,
            "physics": self.world.set_physics,
            "catalogue": self._set_catalogue,
            "trigger": lambda a: self.triggers.add(Trigger.model_validate(a)),
            "happen": lambda a: happen(self.world, a["what"], a["machine"]),
            "machine_env": lambda a: self._machine_extra.update(a),
            "serial": self._serial,
            "project": self._set_project,
            "bucket": self._set_bucket,
            "objects": self._objects,
            "template": self._set_template,
            "export": self._export,
        }

    def _set_project(self, asked: dict[str, Any]) -> None:
        for key in ("denied", "disabled", "accounts"):
            if key in asked:
                setattr(self.project, key, set(asked[key]))

    def _advance(self, asked: dict[str, Any]) -> float:
        now = self.clock.advance(float(asked["seconds"]))
        self.world.scheduler.run_due()
        return now

    def _set_catalogue(self, asked: dict[str, Any]) -> None:
        with self.world.lock:
            catalogue = self.world.catalogue
            catalogue.missing |= set(asked.get("missing", []))
            catalogue.networks |= set(asked.get("networks", []))
            for region in REGIONS:
                catalogue.quotas.setdefault(region, {}).update(asked.get("all_quotas", {}))
            catalogue.images |= set(asked.get("images", []))
            catalogue.zones = list(asked.get("zones", catalogue.zones))
            for region, limits in asked.get("quotas", {}).items():
                catalogue.quotas.setdefault(region, {}).update(limits)

    def _serial(self, asked: dict[str, Any]) -> str:
        """What a machine's serial port said, also after it is gone (the newest of that name)."""
        folder = self.folder / "serial"
        found = sorted(folder.glob(f"{asked['machine']}-*.log"), key=lambda p: p.stat().st_mtime)
        return found[-1].read_text(errors="replace") if found else ""

    def _set_bucket(self, asked: dict[str, Any]) -> None:
        if owner := asked.get("owner"):
            self.storage.foreign[asked["name"]] = owner
        else:
            self.storage.bucket(asked["name"]).document.update(asked.get("document", {}))

    def _set_template(self, asked: dict[str, Any]) -> None:
        disk = {"boot": True, "autoDelete": True, "initializeParams": {"diskSizeGb": "20"}}
        usual = {
            "machineType": "n2-highcpu-8",
            "disks": [disk],
            "networkInterfaces": [{"network": "global/networks/default"}],
        }
        self.world.furnish(asked["name"], {**usual, **asked.get("properties", {})})

    def _export(self, asked: dict[str, Any]) -> int:
        """Write the objects below a prefix into a folder; how many."""
        folder, prefix = Path(asked["folder"]), str(asked.get("prefix") or "").strip("/")
        with self.storage.lock:
            bucket = self.storage.buckets.get(asked["bucket"])
            live = {} if bucket is None else dict(bucket.live)
        head = f"{prefix}/" if prefix else ""
        found = {name[len(head) :]: one for name, one in live.items() if name.startswith(head)}
        for name, one in found.items():
            path = (folder / name).resolve()
            if not path.is_relative_to(folder.resolve()):
                raise ValueError(f"{name!r} leads out of {folder}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(one.data)
        return len(found)

    def _objects(self, asked: dict[str, Any]) -> list[str]:
        with self.storage.lock:
            bucket = self.storage.buckets.get(asked["bucket"])
            return [] if bucket is None else list(bucket.names)


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m drillyard.testing.cloud.gcp")
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("--project", default="emulated-project")
    parser.add_argument("--speed", type=float, default=1.0, help="emulated seconds a second")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bodies", action="store_true", help="record JSON bodies")
    parser.add_argument("--image", type=Path, help="the environment that plays the image")
    parser.add_argument("--parent", type=int, help="end when this process is gone")
    asked = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    cloud = Cloud(asked.folder, asked.project, asked.speed, asked.seed, asked.bodies, asked.image)
    try:
        sys.stdout.write(json.dumps(cloud.greeting()) + "\n")
        sys.stdout.flush()
        while not stop.wait(0.5):
            # A killed parent cannot tell us; we are then somebody else's child.
            if asked.parent is not None and os.getppid() != asked.parent:
                break
    finally:
        cloud.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
