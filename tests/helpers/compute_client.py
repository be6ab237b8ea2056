"""The real Compute client in this process, pointed at an emulator through its proxy."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import requests
from google.auth.credentials import Credentials
from google.auth.transport.requests import AuthorizedSession
from google.cloud import compute_v1
from google.oauth2 import service_account

from drillyard_emulators.http.handle import GcpEmulator
from tests.helpers.patience import until

ZONE = "europe-west1-b"
REGION = "europe-west1"


def through(session: requests.Session, cloud: GcpEmulator) -> None:
    """Send a session's requests to the emulator, without touching this process's environment."""
    session.proxies = {"https": cloud.env["HTTPS_PROXY"]}
    session.verify = cloud.env["REQUESTS_CA_BUNDLE"]
    session.trust_env = False


class Compute:
    """The clients that tests need; each sends its requests through the emulator's proxy."""

    def __init__(self, cloud: GcpEmulator, credentials: Credentials | None = None) -> None:
        self.cloud, self.project = cloud, cloud.project
        if credentials is None:
            key = cloud.env["GOOGLE_APPLICATION_CREDENTIALS"]
            credentials = service_account.Credentials.from_service_account_file(
                key, scopes=["https://www.googleapis.com/auth/cloud-platform"]
            )
        self._credentials = credentials
        self._made: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        """``compute.instances`` is an ``InstancesClient``."""
        if name not in self._made:
            words = "".join(word.capitalize() for word in name.split("_"))
            client = getattr(compute_v1, f"{words}Client")(credentials=self._credentials)
            session: AuthorizedSession = client.transport._session
            through(session, self.cloud)
            if session._auth_request_session is not None:
                through(session._auth_request_session, self.cloud)
            self._made[name] = client
        return self._made[name]

    def wait(self, operation: Any) -> Any:
        """Wait on the server's side until an operation is done."""
        where = operation.zone or operation.region
        name, place = operation.name, where.rpartition("/")[2]
        while operation.status != compute_v1.Operation.Status.DONE:
            if operation.zone:
                operation = self.zone_operations.wait(
                    project=self.project, zone=place, operation=name
                )
            elif operation.region:
                operation = self.region_operations.wait(
                    project=self.project, region=place, operation=name
                )
            else:
                operation = self.global_operations.wait(project=self.project, operation=name)
        return operation

    def template(self, script: str = "", **more: Any) -> str:
        """A Spot template with a start-up script; its link."""
        name = f"t-{uuid.uuid4().hex[:8]}"
        properties = {
            "machine_type": "n2-highcpu-2",
            "labels": {"app": "test"},
            "disks": [
                {"boot": True, "auto_delete": True, "initialize_params": {"disk_size_gb": 10}}
            ],
            "network_interfaces": [{"network": "global/networks/default"}],
            "service_accounts": [{"email": self.cloud.service_account}],
            "metadata": {"items": [{"key": "startup-script", "value": script}]},
            "scheduling": {
                "provisioning_model": "SPOT",
                "instance_termination_action": "DELETE",
                "on_host_maintenance": "TERMINATE",
                "automatic_restart": False,
            },
            **more,
        }
        resource = {"name": name, "properties": properties}
        self.wait(
            self.instance_templates.insert_unary(
                project=self.project, instance_template_resource=resource
            )
        )
        return f"global/instanceTemplates/{name}"

    def group(self, template: str, action: str = "DO_NOTHING", size: int = 0) -> str:
        """An empty zonal group; its name."""
        name = f"g-{uuid.uuid4().hex[:8]}"
        resource = {
            "name": name,
            "base_instance_name": name,
            "instance_template": f"projects/{self.project}/{template}",
            "target_size": size,
            "instance_lifecycle_policy": {"default_action_on_failure": action},
        }
        self.wait(
            self.instance_group_managers.insert_unary(
                project=self.project, zone=ZONE, instance_group_manager_resource=resource
            )
        )
        return name

    def create(self, group: str, *names: str, **metadata: str) -> Any:
        """Make members by name."""
        state = {"metadata": metadata}
        body = {"instances": [{"name": name, "preserved_state": state} for name in names]}
        return self.wait(
            self.instance_group_managers.create_instances_unary(
                project=self.project,
                zone=ZONE,
                instance_group_manager=group,
                instance_group_managers_create_instances_request_resource=body,
            )
        )

    def remove(self, group: str, *names: str) -> Any:
        """Delete members through their group."""
        place = f"zones/{ZONE}/instances"
        body = {"instances": [f"{place}/{name}" for name in names]}
        return self.wait(
            self.instance_group_managers.delete_instances_unary(
                project=self.project,
                zone=ZONE,
                instance_group_manager=group,
                instance_group_managers_delete_instances_request_resource=body,
            )
        )

    def managed(self, group: str) -> dict[str, Any]:
        """Members of a group by name."""
        found = self.instance_group_managers.list_managed_instances(
            project=self.project, zone=ZONE, instance_group_manager=group
        )
        return {one.name: one for one in found}

    def drop(self, group: str) -> Any:
        """Delete a group with its members."""
        return self.wait(
            self.instance_group_managers.delete_unary(
                project=self.project, zone=ZONE, instance_group_manager=group
            )
        )

    def listed(self, filter: str = "") -> Iterator[Any]:
        """Instances of all zones."""
        request = compute_v1.AggregatedListInstancesRequest(project=self.project, filter=filter)
        for _, scoped in self.instances.aggregated_list(request=request):
            yield from scoped.instances


def a_name() -> str:
    return f"m-{uuid.uuid4().hex[:8]}"


def machine(cloud: GcpEmulator, name: str) -> dict[str, Any]:
    """What the emulator's own books say of a machine, the newest of that name."""
    return [m for m in cloud.state()["all_machines"] if m["name"] == name][-1]


def running(compute: Compute, group: str, name: str) -> Any:
    """Wait until a member runs."""
    return until(
        lambda: (
            (one := compute.managed(group).get(name)) and one.instance_status == "RUNNING" and one
        )
    )
