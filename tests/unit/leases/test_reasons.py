"""What a provider says about machines that are waited for reaches the user, once."""

from __future__ import annotations

from typing import ClassVar

import pytest

from drillyard.backend import Lease
from drillyard.errors import ControlPlaneError, TeardownUnconfirmed
from drillyard.leases.reasons import Reasons
from drillyard.leases.release import Release
from drillyard.leases.setup_wait import SetupWait
from drillyard.system.loops import run_steps
from tests.helpers.paid_backend import PaidBackend
from tests.unit.leases.test_other_clocks import Skewed, command, mailbox, true

__all__ = ["mailbox", "true"]


class Explaining(PaidBackend):
    """A provider that ends nothing, and says why."""

    why: ClassVar[list[str]] = []
    silent: ClassVar[bool] = False

    def reasons(self, lease: Lease) -> list[str]:
        if self.silent:
            raise ControlPlaneError("no answer")
        return [text.replace("NAME", lease.lease_id) for text in self.why]


@pytest.fixture
def lease(mailbox, true):
    Explaining.why, Explaining.silent = [], False
    return command(mailbox, Skewed(true, 0.0)).provision()


def test_one_reason_for_many_machines_is_said_once(lease):
    said: list[str] = []
    reasons = Reasons(said.append)
    Explaining.why = ["NAME-w0-0: PERMISSIONS_ERROR", "NAME-w17-2: PERMISSIONS_ERROR"]
    for _ in range(3):
        assert "w17-2" in reasons.look(Explaining(), lease)
    assert said == [f"paid: {lease.lease_id}-w0-0: PERMISSIONS_ERROR"]
    Explaining.why = ["NAME-w1-0: QUOTA_EXCEEDED"]
    reasons.look(Explaining(), lease)
    assert said[1:] == [f"paid: {lease.lease_id}-w1-0: QUOTA_EXCEEDED"]


def test_a_provider_that_does_not_answer_has_no_reason(lease):
    said: list[str] = []
    Explaining.silent = True
    assert Reasons(said.append).look(Explaining(), lease) == "" and not said
    assert Reasons(said.append).look(PaidBackend(), lease) == ""


def test_a_release_says_at_once_why_its_provider_ends_nothing(lease, true):
    """The group's own row said it, and the user read nothing for eleven minutes."""
    said: list[tuple[float, str]] = []
    Explaining.lose_deletes, Explaining.why = 10_000, ["NAME-w0-0: PERMISSIONS_ERROR"]
    began = true.now()
    reasons = Reasons(lambda line: said.append((true.now() - began, line)))
    release = Release(Explaining(), lease, timeout_s=600.0, reasons=reasons)
    with pytest.raises(TeardownUnconfirmed, match="PERMISSIONS_ERROR"):
        run_steps(release.step, true)
    ((at, line),) = said
    assert at < 10.0 and "PERMISSIONS_ERROR" in line


def test_the_set_up_says_why_machines_do_not_come(mailbox, lease):
    said: list[str] = []
    reasons = Reasons(said.append)

    def explain(waited_for: Lease) -> None:
        reasons.look(Explaining(), waited_for)

    waiting = SetupWait(mailbox, Explaining(), lease, 600.0, explain=explain)
    Explaining.why = ["zone b: stock-out"]
    waiting.step(0.0)
    waiting.step(2.0)
    waiting.step(4.0)
    assert said == ["paid: zone b: stock-out"]


def test_the_driver_says_why_machines_do_not_come(mailbox, true, monkeypatch):
    """Through the same path for the set-up, for machines that are replaced, and for the end."""
    driver = command(mailbox, Skewed(true, 0.0))
    said: list[str] = []
    monkeypatch.setattr(driver._leases._reasons, "_say", said.append)
    lease = driver.provision()
    monkeypatch.setattr(PaidBackend, "reasons", lambda self, lease: ["full"], raising=False)
    setup = driver.begin_setup()
    setup.step(0.0)
    setup.step(2.0)
    driver._leases.explain(lease)
    assert said == ["paid: full"]
