"""The parts of every emulated cloud: a proxy with certificates, faults, a log, a control port."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from email.utils import formatdate
from pathlib import Path

from pydantic import BaseModel

from drillyard_emulators.http.clock import EmulatedClock
from drillyard_emulators.http.control import Control, Verb
from drillyard_emulators.http.faults import FaultRule, Faults
from drillyard_emulators.http.fields import Document, Fields, number, text
from drillyard_emulators.http.machines import EMULATOR_MARK, Guard
from drillyard_emulators.http.proxy import Proxy
from drillyard_emulators.http.recording import Recorder
from drillyard_emulators.http.scheduler import Scheduler
from drillyard_emulators.http.tls import Authority
from drillyard_emulators.http.triggers import Trigger, Triggers
from drillyard_emulators.http.wire import App, Listener, Request, Response


class Loopback(ABC):
    """The frame of an emulated cloud; subclasses add the services.

    Args:
        folder: Its own folder: certificates, keys, the machines' folders.
        faults: Rules, in the form of this cloud's errors.
        clock: Emulated time.
        bodies: Record JSON bodies.
    """

    def __init__(self, folder: Path, faults: Faults, clock: EmulatedClock, bodies: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.clock = clock
        self.faults = faults
        self.recorder = Recorder(clock, bodies)
        self.mark = uuid.uuid4().hex
        self._machine_extra: dict[str, str] = {}
        self._guard = Guard(self.mark)
        self._authority = Authority()

    def open_doors(self, apps: Mapping[str, App], verbs: Mapping[str, Verb]) -> None:
        """Starts to serve: the last step of construction.

        Args:
            apps: Host name to service.
            verbs: What can be asked of this emulator, beside what every one can do.
        """
        served = {host: self.served(app) for host, app in apps.items()}
        self.proxy = Proxy(self._authority.server(sorted(served)), served)
        self.bundle = self._authority.write_bundle(self.folder / "ca.pem")
        usual: dict[str, Verb] = {
            "log": lambda a: self.recorder.exchanges(text(a, "match"), int(number(a, "since"))),
            "fault": lambda a: self.faults.add(FaultRule.model_validate(a)),
            "clear_faults": lambda _: self.faults.clear(),
            "machine_env": self._set_machine_env,
        }
        self._control = Listener.of(Control({**usual, **verbs}))

    def _set_machine_env(self, asked: Document) -> None:
        """Sets variables of machines that start from now on; null takes one away."""
        for name, value in asked.items():
            self._machine_extra.pop(name, None)
            if value is not None:
                self._machine_extra[name] = str(value)

    @abstractmethod
    def greeting(self) -> Document:
        """Returns the one line that is printed."""

    def occur(self, happen: Callable[[str, str], None]) -> None:
        """Sets how something (first) happens to a machine (second)."""
        self.happen, self.triggers = happen, Triggers(happen)

    def common(self, state: Verb, scheduler: Scheduler) -> dict[str, Verb]:
        """Returns the verbs of every cloud with machines."""

        def advance(asked: Document) -> float:
            now = self.clock.advance(number(asked, "seconds"))
            scheduler.run_due()
            return now

        return {
            "state": state,
            "advance": advance,
            "trigger": lambda a: self.triggers.add(Trigger.model_validate(a)),
            "happen": lambda a: self.happen(str(a["what"]), str(a["machine"])),
        }

    def seen(self) -> Document:
        """Returns the part of the state that every cloud has."""
        return {
            "now": self.clock.now(),
            "triggers": self.triggers.all(),
            "faults": self.faults.rules(),
            "hosts": dict(self.proxy.asked),
            "refused_hosts": self.proxy.refused,
        }

    def machine_env(self, home: Path) -> dict[str, str]:
        """Returns what the processes of every machine find."""
        places = {"HOME": str(home), "TMPDIR": str(home / "tmp")}
        return {"LANG": "C.UTF-8", **places, EMULATOR_MARK: self.mark}

    @property
    def control_url(self) -> str:
        """Address of the emulator's control port."""
        return f"http://{self._control.address}"

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

    def served(self, app: App) -> App:
        """A recorded service with faults and with emulated time in its answers."""
        return self.recorder.around(self.faults.around(self._dated(app)))

    def close(self) -> None:
        """Closes all ports."""
        self.proxy.close()
        self._control.close()
        self._guard.close()

    def _dated(self, app: App) -> App:
        """Answers have the emulated time: clients compute the age of objects from it."""

        def served(request: Request) -> Response:
            answer = app(request)
            answer.headers.setdefault("Date", formatdate(self.clock.now(), usegmt=True))
            return answer

        return served


def change(model: BaseModel, changes: Fields) -> None:
    """Changes some fields of a record.

    Raises:
        pydantic.ValidationError: No such field, or a bad value.
    """
    fresh = type(model).model_validate({**model.model_dump(), **changes})
    for name in changes:
        setattr(model, name, getattr(fresh, name))


def exported(asked: Document, names: Iterable[str], read: Callable[[str], bytes]) -> int:
    """Writes the objects below a prefix into a folder; returns their number.

    Args:
        asked: ``folder`` and ``prefix``.
        names: Names of objects.
        read: Reads one.
    """
    folder, prefix = Path(text(asked, "folder")), text(asked, "prefix").strip("/")
    head = f"{prefix}/" if prefix else ""
    below = [name for name in names if name.startswith(head)]
    for name in below:
        path = (folder / name[len(head) :]).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise ValueError(f"{name!r} leads out of {folder}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(read(name))
    return len(below)


def parser(module: str) -> argparse.ArgumentParser:
    """The command line that every emulator has.

    Args:
        module: As it is run.
    """
    words = argparse.ArgumentParser(prog=f"python -m {module}")
    words.add_argument("--folder", required=True, type=Path)
    words.add_argument("--speed", type=float, default=1.0, help="emulated seconds a second")
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--bodies", action="store_true", help="record JSON bodies")
    words.add_argument("--image", type=Path, help="the environment that plays the image")
    words.add_argument("--parent", type=int, help="end when this process is gone")
    return words


def serve(make: Callable[[], Loopback], parent: int | None) -> int:
    """Serves until a signal arrives or the parent is gone.

    Args:
        make: Makes the cloud.
        parent: A process id.
    """
    stop = threading.Event()
    for caught in (signal.SIGTERM, signal.SIGINT):
        signal.signal(caught, lambda *_: stop.set())
    cloud = make()
    try:
        sys.stdout.write(json.dumps(cloud.greeting()) + "\n")
        sys.stdout.flush()
        while not stop.wait(0.5):
            # A killed parent cannot tell us; our parent process is then another one.
            if parent is not None and os.getppid() != parent:
                break
    finally:
        cloud.close()
    return 0
