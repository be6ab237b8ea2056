"""Azure as one process on loopback: ``python -m drillyard.testing.cloud.azure.cloud``.

It prints one JSON line (``env`` to export, ``control`` to talk to) and serves until it is told to
stop or its parent is gone. Tests and ``drillyard rehearse`` use it through
``drillyard.testing.cloud.handle.AzureEmulator``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from drillyard.testing.cloud.azure.answers import refused
from drillyard.testing.cloud.azure.blobs import Blobs
from drillyard.testing.cloud.azure.entra import HOST, Entra
from drillyard.testing.cloud.clock import EmulatedClock
from drillyard.testing.cloud.emulator import Loopback, parser, serve
from drillyard.testing.cloud.faults import Faults

ACCOUNT = "rehearsalstore"
CONTAINER = "azureml-blobstore-00000000"


class Azure(Loopback):
    """All services, wired together.

    Args:
        folder: Of its own.
        speed: Emulated seconds a real second.
        seed: Of the random faults.
        bodies: Record JSON bodies.
    """

    def __init__(
        self, folder: Path, speed: float = 1.0, seed: int = 0, bodies: bool = False
    ) -> None:
        super().__init__(folder, Faults(seed, refused), EmulatedClock(speed), bodies)
        self.entra = Entra()
        self.blobs = Blobs(ACCOUNT, folder, self._authority, self.entra, self._on_blob)
        self.blobs.make_container(CONTAINER)
        self.open_doors({HOST: self.entra, self.blobs.host: self.blobs}, self._verbs())

    def env(self) -> dict[str, str]:
        """What a client's environment needs; nothing else tells it from the real cloud."""
        return {**self.network_env(), **self.entra.env()}

    def greeting(self) -> dict[str, Any]:
        """The one line that is printed."""
        return {
            "env": self.env(),
            "control": self.control_url,
            "folder": str(self.folder),
            "account": ACCOUNT,
            "container": CONTAINER,
            "workspace": {},
        }

    def state(self, _: dict[str, Any]) -> dict[str, Any]:
        """Everything that exists."""
        return {
            "now": self.clock.now(),
            "faults": self.faults.rules(),
            "hosts": dict(self.proxy.asked),
            "refused_hosts": self.proxy.refused,
        }

    def close(self) -> None:
        """End all of it."""
        super().close()
        self.blobs.close()

    def _on_blob(self, caller: str, name: str) -> None:
        """A caller wrote a blob."""

    def _verbs(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "objects": lambda a: self.blobs.names(a["container"], a.get("prefix", "")),
            "entra": self._set_entra,
        }

    def _set_entra(self, asked: dict[str, Any]) -> None:
        for name in ("life_s", "trouble", "valid_from"):
            if name in asked:
                setattr(self.entra, name, asked[name])


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to stop."""
    a = parser("drillyard.testing.cloud.azure.cloud").parse_args(arguments)
    return serve(lambda: Azure(a.folder, a.speed, a.seed, a.bodies), a.parent)


if __name__ == "__main__":
    sys.exit(main())
