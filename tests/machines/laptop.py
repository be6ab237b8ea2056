"""A user's laptop beside a Google Cloud with bare machines."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from drillyard.mailbox.records import Phase
from drillyard.spec.load import load
from drillyard_backends.gcp import wheelhouse
from drillyard_emulators.http.handle import GcpEmulator
from tests.conftest import ROOT
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.rented import Lab

LIMITS = ("budget.max_hours=1", "budget.max_cost=5", "seeds=[1]")
ON_GOOGLE = ("--on", "gcp", "--no-prefect", *(word for each in LIMITS for word in ("--set", each)))
DEBIAN = "projects/debian-cloud/global/images/family/debian-12"


class BareLab(Lab):
    """The laptop; machines have a plain Debian."""

    def made(self) -> dict[str, str]:
        """What the cloud has for the user; the settings that name it."""
        settings = super().made()
        del settings["IMAGE"], settings["PYTHON"]
        self.cloud.ask("catalogue", images=[DEBIAN])
        return {**settings, "IMAGE_FAMILY": DEBIAN}

    def publish(self, folder: Path, extras: str) -> None:
        """Uploads a wheelhouse, as the page says."""
        self.cloud.ask("bucket", name=self.bucket)
        url = f"gs://{self.bucket}/wheelhouse"
        self.settings["WHEELHOUSE"] = wheelhouse.publish(folder, url, extras)

    def shipped(self, *names: str) -> None:
        """Copies files of ``experiments/``."""
        for name in names:
            (self.folder / name).write_bytes((ROOT / "experiments" / name).read_bytes())

    def begin(self, *more: str) -> Any:
        """Starts the shortest experiment with one run."""
        self.shipped("mock.yaml")
        return self.start("run", "mock.yaml", *ON_GOOGLE, *more)

    def finishes(
        self,
        experiment: str,
        *files: str,
        more: Sequence[str] = (),
        timeout_s: float = PATIENCE_S,
    ) -> None:
        """An experiment of one run comes to its end, and nothing of it is left."""
        self.shipped(f"{experiment}.yaml", *files)
        self.run("run", f"{experiment}.yaml", *ON_GOOGLE, *more, timeout_s=timeout_s)
        mailbox = self.mailbox(load(self.folder / f"{experiment}.yaml").spec.name)
        runs = [record.run for record in mailbox.runs()]
        assert len(runs) == 1 and mailbox.accepted(runs[0], Phase.STORE) is not None
        assert self.left() == {}

    def first_life(self, timeout_s: float) -> tuple[float, str]:
        """How long the first machine lived, in seconds from its boot, and what its port said."""
        until(lambda: self.cloud.state()["all_machines"], what="a machine")
        until(lambda: self._first()["status"] == "RUNNING", what="its boot", every_s=0.2)
        began = time.monotonic()
        until(
            lambda: self._first()["gone"] is not None or self._first()["status"] == "TERMINATED",
            timeout_s,
            "its end",
            0.5,
        )
        return time.monotonic() - began, self.cloud.serial(self._first()["name"])

    def _first(self) -> Any:
        return self.cloud.state()["all_machines"][0]


@contextlib.contextmanager
def laptop(folder: Path, root: Path, patch: pytest.MonkeyPatch) -> Iterator[BareLab]:
    """A laptop; nothing of its machines is left at the end."""
    options = ("--image", str(root))
    (folder / "laptop").mkdir()
    module = "drillyard_emulators.gcp.bare"
    with GcpEmulator(folder / "cloud", module=module, options=options) as cloud:
        lab = BareLab(cloud, folder / "laptop", patch)
        try:
            yield lab
        finally:
            lab.close()
    assert not list((folder / "cloud" / "machines").glob("*"))
