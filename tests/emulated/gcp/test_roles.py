"""The permissions that the guide grants are enough, and no more than that."""

import json
import uuid
from pathlib import Path

import pytest
import yaml
from google.auth.transport.requests import AuthorizedSession
from google.oauth2 import service_account

from drillyard.backend import Order
from drillyard.errors import DrillyardError
from drillyard_backends.gcp import rights
from drillyard_backends.gcp.backend import GcpBackend
from drillyard_backends.gcp.instance_group_self import InstanceGroupSelf
from drillyard_emulators.http.handle import GcpEmulator
from tests.emulated.gcp.books import nothing_left
from tests.helpers.patience import until


def role(name: str) -> list[str]:
    """The permissions of a role file that the guide tells users to grant."""
    path = Path(__file__).parents[3] / "deployments/gcp" / name
    return list(yaml.safe_load(path.read_text())["includedPermissions"])


@pytest.mark.parametrize("lacking", ["", "compute.instanceGroups.delete"])
def test_the_roles_that_ship_are_enough_to_rent_and_to_end(
    bodiless: GcpEmulator, backend: GcpBackend, order: Order, lacking: str
) -> None:
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
        alone = order.model_copy(update={"lease_id": f"dy-{uuid.uuid4().hex[:10]}"})
        backend.provision(alone)
        group = InstanceGroupSelf(
            bodiless.project, f"zones/europe-west1-b/{alone.lease_id}", "europe-west1-b", 5.0
        )
        group.__dict__["session"] = machine_session(bodiless)
        assert group.members() is not None
        assert group.delete_machine(f"{alone.lease_id}-w0-0")
        assert group.delete()
        until(lambda: alone.lease_id not in str(bodiless.state()["groups"]), 60, "no group")
    finally:
        bodiless.ask("project", granted={})
    backend._groups.delete_template(alone.lease_id)


def machine_session(cloud: GcpEmulator) -> AuthorizedSession:
    """Requests in the name of the machines' own account."""
    key = json.loads(Path(cloud.env["GOOGLE_APPLICATION_CREDENTIALS"]).read_text())
    credentials = service_account.Credentials.from_service_account_info(
        {**key, "client_email": cloud.service_account},
        scopes=["https://www.googleapis.com/auth/cloud-platform"],
    )
    return AuthorizedSession(credentials)
