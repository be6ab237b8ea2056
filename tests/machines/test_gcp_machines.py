"""The real start-up script on bare machines, to the end of a ticket: one kind of image a case."""

from pathlib import Path

import pytest

from drillyard.mailbox.records import Phase
from drillyard_backends.gcp import wheelhouse
from drillyard_emulators.http.handle import GcpEmulator
from tests.helpers.patience import until
from tests.helpers.rented import Lab
from tests.machines.wheels import ROOT

pytestmark = pytest.mark.heavy
DEBIAN = "projects/debian-cloud/global/images/family/debian-12"


class BareLab(Lab):
    """A user's laptop beside a cloud with bare machines of a plain Debian."""

    def made(self):
        """What the cloud has for the user; the settings that name it."""
        settings = super().made()
        del settings["IMAGE"]
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


@pytest.fixture
def lab(tmp_path, debian, monkeypatch):
    """Its machines begin with nothing but that."""
    options = ("--image", str(debian))
    folder = tmp_path / "laptop"
    folder.mkdir()
    with GcpEmulator(
        tmp_path / "cloud", module="drillyard_emulators.gcp.bare", options=options
    ) as cloud:
        laptop = BareLab(cloud, folder, monkeypatch)
        try:
            yield laptop
        finally:
            laptop.close()


def test_a_plain_debian_with_a_wheelhouse(lab, wheels, tmp_path):
    lab.publish(wheels("gcs"), "gcs")
    lab.shipped("script.yaml", "sorting.py")
    limits = ("--set", "budget.max_hours=1", "--set", "budget.max_cost=5", "--set", "seeds=[1]")
    lab.run("run", "script.yaml", "--on", "gcp", "--no-prefect", *limits)
    mailbox = lab.mailbox("sorting")
    runs = [record.run for record in mailbox.runs()]
    assert len(runs) == 1 and mailbox.accepted(runs[0], Phase.STORE) is not None
    assert "installing from gs://" in lab.serials()
    assert lab.left() == {}
    until(lambda: not list((tmp_path / "cloud" / "machines").glob("*")), what="no disk")
