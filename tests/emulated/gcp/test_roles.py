"""The permissions that the guide grants are enough, and no more than that."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.auth.transport.requests import AuthorizedSession
from google.oauth2 import service_account

from drillyard.errors import DrillyardError
from drillyard.mailbox import open_store
from drillyard_backends.gcp import rights
from drillyard_backends.gcp.backend import GcpBackend
from drillyard_backends.gcp.instance_group_self import Forbidden, InstanceGroupSelf
from drillyard_emulators.http.handle import GcpEmulator
from tests.emulated.gcp.books import gone, machines, nothing_left
from tests.helpers.patience import until


def role(name: str) -> list[str]:
    """The permissions of a role file that the guide tells users to grant."""
    path = Path(__file__).parents[3] / "deployments/gcp" / name
    return list(yaml.safe_load(path.read_text())["includedPermissions"])


@pytest.mark.parametrize("lacking", ["", "compute.instanceGroups.delete"])
def test_the_roles_that_ship_are_enough_to_rent_and_to_end(bodiless, backend, order, lacking):
    """G-D5: with them groups could be made, and not be deleted."""
    user = f"user@{bodiless.project}.iam.gserviceaccount.com"
    has = {
        user: [*role("role.yaml"), *rights.BUCKET],
        bodiless.service_account: role("machine-role.yaml"),
    }
    bodiless.ask("project", granted={k: [p for p in v if p != lacking] for k, v in has.items()})
    try:
        if lacking:
            bodiless.ask("project", granted={})
            lease = backend.provision(order)
            bodiless.ask("project", granted={user: [p for p in has[user] if p != lacking]})
            with pytest.raises(DrillyardError, match=lacking):
                backend.teardown(lease)
            bodiless.ask("project", granted=has)
        else:
            lease = backend.provision(order)
            assert backend.tend(lease, 1) == 1
            list(backend.leases())
            backend.protect(lease, None)
        backend.teardown(lease)
        until(lambda: nothing_left(bodiless, order), 60, "an empty project")
    finally:
        bodiless.ask("project", granted={})


def test_a_machine_ends_itself_with_the_role_that_ships(bodiless, backend, order):
    """Its empty group costs nothing; the next command deletes it."""
    lease = backend.provision(order)
    name = f"{order.lease_id}-w0-0"
    until(lambda: machines(bodiless, order), what="a machine")
    group = own_group(bodiless, order.lease_id)
    bodiless.ask("project", granted={bodiless.service_account: [machine_grant("dy")]})
    try:
        assert group.members() is not None
        with pytest.raises(Forbidden):
            group.delete()
        assert group.delete_machine(name)
        until(lambda: not machines(bodiless, order), what="no machine")
        for match in (f"POST .*{order.lease_id}/deleteInstances", f"DELETE .*/instances/{name}"):
            (asked,) = bodiless.log(match)
            assert "requestId=" in asked["query"]  # L14
    finally:
        bodiless.ask("project", granted={})
    assert [m for m in machines(bodiless, order, all_=True) if m["name"] != name] == []
    gone(bodiless, backend, lease)


def test_code_on_a_machine_reaches_no_other_experiment(bodiless, settings, order):
    """M11: with the grants that `plan` names, neither machines nor objects of another one."""
    ours = GcpBackend(**{**settings, "group_prefix": "ours", "prefix": "ours"})
    other = GcpBackend(**{**settings, "group_prefix": "other", "prefix": "other"})
    leases = []
    for each in (ours, other):
        each.prepare_store(each.store_url())
        open_store(each.store_url()).put("experiments/e/a.json", b"theirs")
        leases.append(each.provision(order.model_copy(update={"store_url": each.store_url()})))
    until(lambda: len(machines(bodiless, order)) == 2, what="two machines")
    digits, zone = order.lease_id.removeprefix("dy-"), machines(bodiless, order)[0]["zone"]
    compute = f"https://compute.googleapis.com/compute/v1/projects/{bodiless.project}/zones/{zone}"
    bucket = settings["bucket"]
    objects = f"https://storage.googleapis.com/storage/v1/b/{bucket}/o"
    upload = (
        f"https://storage.googleapis.com/upload/storage/v1/b/{bucket}/o?uploadType=media&name="
    )
    xml = f"https://storage.googleapis.com/{bucket}"
    session = machine_session(bodiless)
    folder = {"permissions": OBJECTS, "folder": f"{bucket}/ours/"}
    bodiless.ask("project", granted={bodiless.service_account: [machine_grant("ours"), folder]})
    try:
        for method, url in (
            ("DELETE", f"{compute}/instances/other-{digits}-w0-0"),
            ("DELETE", f"{compute}/instanceGroupManagers/other-{digits}"),
            ("POST", f"{compute}/instanceGroupManagers/other-{digits}/deleteInstances"),
            ("DELETE", f"{compute}/instanceGroupManagers/ours-{digits}"),
            ("GET", f"{objects}/other%2Fexperiments%2Fe%2Fa.json?alt=media"),
            ("DELETE", f"{objects}/other%2Fexperiments%2Fe%2Fa.json"),
            ("POST", f"{upload}other/experiments/e/a.json"),
            ("GET", f"{objects}?prefix=other/"),
            ("GET", f"{objects}?prefix=ours"),  # also lists "ours-2/"
            ("GET", objects),
            ("GET", f"{xml}/other/experiments/e/a.json"),
            ("PUT", f"{xml}/other/experiments/e/a.json"),
            ("GET", f"{xml}?prefix=other/"),
        ):
            answer = session.request(method, url, json={} if method == "POST" else None)
            assert answer.status_code == 403, (method, url, answer.status_code, answer.text)
        own = f"{objects}/ours%2Fexperiments%2Fe%2Fa.json?alt=media"
        assert session.get(own).content == b"theirs"
        assert session.get(f"{objects}?prefix=ours/experiments/").status_code == 200
        assert session.post(f"{upload}ours/experiments/e/b.json", data=b"x").status_code == 200
        assert session.delete(f"{compute}/instances/ours-{digits}-w0-0").status_code == 200
        until(lambda: len(machines(bodiless, order)) == 1, what="the end of our machine")
        assert machines(bodiless, order)[0]["name"] == f"other-{digits}-w0-0"
    finally:
        bodiless.ask("project", granted={})
    for backend, lease in zip((ours, other), leases, strict=True):
        gone(bodiless, backend, lease)


OBJECTS = [f"storage.objects.{verb}" for verb in ("create", "delete", "get", "list", "update")]
"""What roles/storage.objectAdmin has on objects."""


def machine_grant(prefix: str) -> dict[str, Any]:
    """The machines' role with the condition that `plan` and the guide write."""
    condition = rights.machine_condition(prefix)
    return {"permissions": role("machine-role.yaml"), "condition": condition}


def own_group(cloud: GcpEmulator, name: str) -> InstanceGroupSelf:
    """A machine's view of its group, with the machines' own identity."""
    group = InstanceGroupSelf(cloud.project, f"zones/europe-west1-b/{name}", "europe-west1-b", 5.0)
    group.__dict__["session"] = machine_session(cloud)
    return group


def machine_session(cloud: GcpEmulator) -> AuthorizedSession:
    """Requests in the name of the machines' own account."""
    key = json.loads(Path(cloud.env["GOOGLE_APPLICATION_CREDENTIALS"]).read_text())
    credentials = service_account.Credentials.from_service_account_info(
        {**key, "client_email": cloud.service_account},
        scopes=["https://www.googleapis.com/auth/cloud-platform"],
    )
    return AuthorizedSession(credentials)
