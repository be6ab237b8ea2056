"""What one answer of Google does not prove: a missing group, an operation, two machines."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from drillyard.errors import ControlPlaneError
from drillyard.testing.clock import FakeClock
from drillyard_backends.gcp import operations
from drillyard_backends.gcp.errors import InUse, Missing, of_operation
from drillyard_backends.gcp.groups import Groups
from drillyard_backends.gcp.lease_view import Viewer
from drillyard_backends.gcp.lives import surplus
from drillyard_backends.gcp.managed import Group, Managed, Stage
from drillyard_backends.gcp.naming import Machine
from drillyard_backends.gcp.store import GcsStore
from drillyard_backends.gcp.zones import Candidate, Place

ZONES = [Candidate(0, "n2-highcpu-8", True, Place.parse(f"zones/{z}")) for z in ("a", "b")]
FIRST, SECOND = (Group(candidate.place, candidate.variant) for candidate in ZONES)


def managed(name: str, stage: Stage = Stage.UP, sure: bool = True) -> Managed:
    machine = Machine.parse(f"dy-0123456789-{name}")
    assert machine is not None
    return Managed(f"dy-0123456789-{name}", machine, stage, name, None, "1", sure)


class Listing:
    """The groups of Google, where one group has machines unless a test takes it away."""

    def __init__(self, *machines: Managed) -> None:
        self.there: list[Managed] | None = list(machines)

    def machines(self, place: Place, name: str) -> list[Managed]:
        if self.there is None or place != FIRST.place:
            raise Missing("not found")
        return self.there


def test_a_group_that_is_missing_once_is_in_doubt_and_then_gone():
    """G-D12: one 404 dropped a group with its machines from the driver's view for good."""
    groups, clock = Listing(managed("w0-0")), FakeClock()
    viewer = Viewer(groups, "dy-0123456789", ZONES, clock, lag_s=15.0)  # type: ignore[arg-type]
    there = groups.there
    assert [m.stage for m in viewer.look()[FIRST]] == [Stage.UP]
    groups.there = None
    assert [m.stage for m in viewer.look()[FIRST]] == [Stage.COMING]  # neither up nor gone
    groups.there = there
    assert [m.stage for m in viewer.look()[FIRST]] == [Stage.UP]
    groups.there = None
    viewer.look()
    clock.advance(15.0)
    assert viewer.look() == {}


def test_a_group_is_looked_at_while_the_answer_to_its_making_is_waited_for():
    """Its machines work already: the driver called them gone, and closed their attempts."""
    groups = Listing(managed("w0-0"))
    there, groups.there = groups.there, None
    viewer = Viewer(groups, "dy-0123456789", ZONES, FakeClock(), lag_s=15.0)  # type: ignore[arg-type]
    assert viewer.look() == {}
    viewer.making(ZONES[0])
    assert viewer.look() == {}
    groups.there = there
    assert [m.stage for m in viewer.look()[FIRST]] == [Stage.UP]


def test_a_group_that_is_added_to_is_still_in_doubt_when_it_is_missing_once():
    """Asking for a machine more must not forget the machines that are there."""
    groups = Listing(managed("w0-0"))
    viewer = Viewer(groups, "dy-0123456789", ZONES, FakeClock(), lag_s=15.0)  # type: ignore[arg-type]
    viewer.look()
    viewer.making(ZONES[0])
    viewer.expect({FIRST})
    groups.there = None
    assert [m.stage for m in viewer.look()[FIRST]] == [Stage.COMING]


def test_a_group_that_is_missing_just_after_it_was_made_is_asked_for_again():
    """Whether a listing may lag behind the answer is not known."""
    groups, clock = Listing(managed("w0-0")), FakeClock()
    there, groups.there = groups.there, None
    viewer = Viewer(groups, "dy-0123456789", ZONES, clock, lag_s=15.0)  # type: ignore[arg-type]
    viewer.look()
    viewer.making(ZONES[0])
    viewer.expect({FIRST})
    assert viewer.look() == {}
    clock.advance(14.0)
    groups.there = there
    assert [m.stage for m in viewer.look()[FIRST]] == [Stage.UP]


def test_a_group_whose_machines_never_lived_is_gone_at_once():
    """It was deleted because its zone had no room: the next zone must not wait."""
    groups = Listing(managed("w0-0", Stage.COMING, sure=False))
    viewer = Viewer(groups, "dy-0123456789", ZONES, FakeClock(), lag_s=15.0)  # type: ignore[arg-type]
    viewer.look()
    groups.there = None
    assert viewer.look() == {}


@pytest.mark.parametrize(("within_s", "asked"), [(1.0, "get"), (300.0, "wait")])
def test_an_operation_is_not_waited_for_longer_than_there_is_time(monkeypatch, within_s, asked):
    """G-D21: the server holds a `wait` for two minutes, with the lease locked."""
    now = [0.0]
    slept: list[float] = []
    compute = operations.Compute("p")
    done, running = compute.v1.Operation.Status.DONE, compute.v1.Operation.Status.RUNNING
    calls: list[str] = []

    def answer(name: str) -> Any:
        def call(**_: Any) -> Any:
            calls.append(name)
            now[0] += 120.0 if name == "wait" else 0.1
            state = done if name == "wait" else running
            return SimpleNamespace(status=state, name="o", error=SimpleNamespace(errors=[]))

        return call

    client = SimpleNamespace(get=answer("get"), wait=answer("wait"))
    compute._clients["ZoneOperations"] = client
    time = SimpleNamespace(
        monotonic=lambda: now[0],
        sleep=lambda s: (slept.append(s), now.__setitem__(0, now[0] + s + 1e-6)),
    )
    monkeypatch.setattr(operations, "time", time)
    first: Any = SimpleNamespace(status=running, name="o", error=None)
    if asked == "get":
        with pytest.raises(ControlPlaneError, match="not done after 1 s"):
            compute.wait("delete", first, ZONES[0].place, within_s)
        assert now[0] < 5.0 and slept
    else:
        compute.wait("delete", first, ZONES[0].place, within_s)
    assert set(calls) == {asked}


@pytest.mark.parametrize(
    ("first", "second", "removed"),
    [
        (managed("w0-0"), managed("w0-0"), {SECOND: 1}),
        (managed("w0-0", Stage.COMING), managed("w0-0"), {FIRST: 1}),
        (managed("w0-0"), managed("w0-1"), {FIRST: 1}),
        (managed("w0-0"), managed("w1-0"), {}),
        (managed("w0-0"), managed("w0-1", Stage.COMING), {SECOND: 1}),
        (managed("w0-0", Stage.GOING), managed("w0-1"), {}),
        (managed("w0-0", Stage.LOST), managed("w0-1"), {}),
    ],
)
def test_of_two_machines_with_one_number_one_is_removed(first, second, removed):
    """G-D29: two workers had one name, and the surplus machine was paid until it was idle."""
    found = surplus({FIRST: [first], SECOND: [second]}, ZONES)
    assert {group: len(machines) for group, machines in found.items()} == removed


def test_a_policy_of_the_organization_is_not_called_a_lack_of_room():
    """M15: it looked like a zone without capacity."""
    error = SimpleNamespace(
        code="CONDITION_NOT_MET", message="Constraint constraints/compute.vmExternalIpAccess"
    )
    found = of_operation([error], "create machine m", "p")
    assert type(found) is ControlPlaneError
    assert "a policy of the organization forbids it" in str(found)
    assert "administrator" in (found.hint or "")


@pytest.mark.parametrize("code", ["RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", "RESOURCE_NOT_READY"])
def test_an_operation_that_ends_because_something_is_in_use_is_asked_for_again(code):
    """M2: it left the error tree, as a request does that is refused for this."""
    error = SimpleNamespace(code=code, message="The instance_template resource is in use")
    assert type(of_operation([error], "delete template t", "p")) is InUse


@pytest.mark.parametrize("place", ["zones/a", "regions/r"])
def test_no_change_of_a_template_replaces_a_machine_at_work(place):
    """M18: a zonal group left its update policy to Google's default."""
    sent: list[dict[str, Any]] = []
    compute = SimpleNamespace(
        project="p",
        change=lambda *_, **request: sent.append(request["instance_group_manager_resource"]),
    )
    groups = Groups(compute, "dy")  # type: ignore[arg-type]
    groups.make(Place.parse(place), "dy-0123456789", "dy-0123456789")
    assert sent[0]["update_policy"]["type_"] == "OPPORTUNISTIC"


def test_a_login_without_a_project_reads_the_store(monkeypatch):
    """M18: the client of the bucket needs a project, which a person's login may not have."""
    import google.auth
    from google.auth.credentials import AnonymousCredentials

    monkeypatch.setattr(google.auth, "default", lambda **_: (AnonymousCredentials(), None))
    for name in ("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    assert GcsStore("gs://lab-runs/a")._connect().name == "lab-runs"
