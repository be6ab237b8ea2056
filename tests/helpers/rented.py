"""Helpers of the end-to-end tests: the real command line against the emulated cloud."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from drillyard.mailbox import Mailbox, open_store
from drillyard.runs.wheels import THIS_PYTHON
from drillyard.system.processes import end, marked
from tests.helpers.patience import PATIENCE_S

DRILLYARD = str(Path(sys.executable).parent / "drillyard")


class Lab:
    """A user's laptop beside an emulated cloud.

    Args:
        cloud: The cloud.
        folder: His files.
        patch: Points this process to the cloud too, to read the bucket.
    """

    kind = "GCP"

    def __init__(self, cloud: Any, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.cloud, self.folder = cloud, folder
        self.settings = self.made()
        for name, value in cloud.env.items():
            patch.setenv(name, value)
        self.command = [DRILLYARD]
        """What ``start`` begins with; a test may put a clock of its own before it."""
        self._children: list[subprocess.Popen[bytes]] = []

    def made(self) -> dict[str, str]:
        """What the cloud has for the user; the settings that name it."""
        cloud = self.cloud
        self.bucket = f"lab-{os.urandom(4).hex()}"
        cloud.ask("catalogue", images=["drillyard"])
        return {
            "PROJECT": cloud.project,
            "BUCKET": self.bucket,
            "LISTING_LAG_S": "0.2",
            "SERVICE_ACCOUNT": cloud.service_account,
            "IMAGE": f"projects/{cloud.project}/global/images/drillyard",
            "PYTHON": THIS_PYTHON,
        }

    def write(self, text: str) -> Path:
        """An experiment file."""
        path = self.folder / "experiment.yaml"
        path.write_text(text)
        return path

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[bytes]:
        """Begin a command."""
        given = {f"DRILLYARD_{self.kind}_{k}": v for k, v in {**self.settings, **settings}.items()}
        folder = str(self.folder)
        env = self.cloud.environ(
            **given,
            HOME=folder,
            DRILLYARD_HOME=f"{folder}/.drillyard",
            DRILLYARD_CONFIG_DIR=f"{folder}/.drillyard",
            PREFECT_HOME=f"{folder}/.prefect",
        )
        with (self.folder / "said.txt").open("ab") as said:
            child = subprocess.Popen(
                [*self.command, *arguments],
                cwd=self.folder,
                env=env,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )
        self._children.append(child)
        return child

    def run(self, *arguments: str, timeout_s: float = PATIENCE_S, **settings: str) -> str:
        """A command that succeeds; what it said."""
        before = len(self.said)
        code = self.start(*arguments, **settings).wait(timeout_s)
        assert code == 0, self.said[before:] + self.serials()
        return self.said[before:]

    @property
    def said(self) -> str:
        """All that commands printed."""
        path = self.folder / "said.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    def serials(self) -> str:
        """The logs of all machines, for a failing test."""
        names = [m["name"] for m in self.cloud.state()["all_machines"]]
        return "".join(f"\n== {name}\n{self.cloud.serial(name)[-3000:]}" for name in names)

    def mailbox(self, experiment: str) -> Mailbox:
        """The experiment in the bucket."""
        return Mailbox(open_store(self.store), experiment)

    @property
    def store(self) -> str:
        """URL of the mailbox."""
        return f"gs://{self.bucket}"

    def left(self) -> dict[str, Any]:
        """What is there that costs money, by the cloud's own books."""
        state = self.cloud.state()
        return {k: state[k] for k in ("machines", "groups", "disks") if state[k]}

    def close(self) -> None:
        """End what is still running of ours."""
        for child in self._children:
            if child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        # The embedded Prefect server ends with its last user; a killed user's is ended here.
        end(marked(f"{self.folder}/.prefect", "PREFECT_HOME"), grace_s=5.0)
