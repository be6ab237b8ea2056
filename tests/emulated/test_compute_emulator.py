"""Compute Engine of the emulator, as the real client library and a real machine meet it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

pytest.importorskip("google.cloud.compute_v1")
from google.api_core import exceptions as errors
from google.cloud import compute_v1

from drillyard.processes import ProcessId, marked
from drillyard.testing.cloud.handle import GcpEmulator
from drillyard.testing.cloud.machines import MACHINE_MARK
from tests.emulated.compute_client import REGION, ZONE, Compute
from tests.patience import until

SLEEPER = '#!/bin/bash\necho "hello from $HOSTNAME"\nexec sleep 600\n'


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcpEmulator]:
    with GcpEmulator(tmp_path_factory.mktemp("compute"), bodies=True) as cloud:
        cloud.physics(boot_s=0.05, operation_s=0.02, retry_s=0.1)
        yield cloud


@pytest.fixture
def compute(cloud: GcpEmulator) -> Iterator[Compute]:
    yield Compute(cloud)
    cloud.clear_faults()
    plain = {"stockouts": [], "false_done": [], "boot_failures": 0, "listing_lag_s": 0.0}
    cloud.physics(**plain, notice_s=30.0, shutdown_s=30.0)


def test_a_script_that_a_process_holds_open_still_runs(tmp_path: Path) -> None:
    """What is started in one thread inherits, for a moment, the file that another one writes."""
    from drillyard.testing.cloud.machines import Machine

    disk, ended = tmp_path / "disk", threading.Event()
    disk.mkdir()
    with (
        (disk / "startup-script").open("w"),
        (disk / "shutdown-script").open("w"),
    ):
        one = Machine(
            "m", uuid.uuid4().hex, disk, tmp_path / "serial", dict(os.environ),
            "#!/usr/bin/env bash\ntrap 'exit 0' TERM\necho hello\nwhile :; do sleep 0.05; done\n",
            "#!/bin/bash\necho bye\n",
        )  # fmt: skip
        until(lambda: "hello" in one.serial.read_text())
        one.shut_down(60.0, ended.set)
        assert ended.wait(60.0)
    assert "bye" in one.serial.read_text()


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


class TestLife:
    def test_of_a_group(self, compute: Compute, cloud: GcpEmulator) -> None:
        """Made by name, each with its own metadata; deleted through the group; nothing left."""
        group = compute.group(compute.template(SLEEPER))
        one, two = a_name(), a_name()
        compute.create(group, one, two, job="run/3")
        assert running(compute, group, one).preserved_state_from_config.metadata["job"] == "run/3"
        found = compute.instances.get(project=compute.project, zone=ZONE, instance=one)
        said = {item.key: item.value for item in found.metadata.items}
        assert said["job"] == "run/3" and said["created-by"].endswith(f"Managers/{group}")
        assert found.labels == {"app": "test"}
        compute.remove(group, one)
        until(lambda: set(compute.managed(group)) == {two})
        manager = compute.instance_group_managers.get(
            project=compute.project, zone=ZONE, instance_group_manager=group
        )
        assert manager.target_size == 1
        compute.drop(group)
        state = cloud.state()
        assert not [m for m in state["machines"] if m["name"] in (one, two)]
        assert not [key for key in state["disks"] if one in key or two in key]
        assert not [g for g in state["groups"] if group in g["key"]]

    def test_of_a_template(self, compute: Compute) -> None:
        template = compute.template()
        name = template.rpartition("/")[2]
        group = compute.group(template)
        with pytest.raises(errors.BadRequest) as raised:
            compute.instance_templates.delete_unary(
                project=compute.project, instance_template=name
            )
        assert raised.value.errors[0]["reason"] == "resourceInUseByAnotherResource"
        compute.drop(group)
        compute.wait(
            compute.instance_templates.delete_unary(
                project=compute.project, instance_template=name
            )
        )
        with pytest.raises(errors.NotFound):
            compute.instance_templates.get(project=compute.project, instance_template=name)

    def test_a_regional_group_avoids_a_full_zone(
        self, compute: Compute, cloud: GcpEmulator
    ) -> None:
        cloud.physics(stockouts=[{"zone": "europe-west1-b"}])
        name = a_name()
        zones = [{"zone": f"zones/europe-west1-{letter}"} for letter in "bc"]
        resource = {
            "name": name,
            "base_instance_name": name,
            "instance_template": compute.template(),
            "distribution_policy": {"zones": zones, "target_shape": "ANY"},
        }
        where = {"project": compute.project, "region": REGION}
        groups = compute.region_instance_group_managers
        compute.wait(groups.insert_unary(**where, instance_group_manager_resource=resource))
        body = {"instances": [{"name": f"{name}-0"}, {"name": f"{name}-1"}]}
        compute.wait(
            groups.create_instances_unary(
                **where,
                instance_group_manager=name,
                region_instance_group_managers_create_instances_request_resource=body,
            )
        )
        until(
            lambda: (
                [machine(cloud, f"{name}-{n}")["status"] for n in (0, 1)] == ["RUNNING"] * 2
                if len([m for m in cloud.state()["machines"] if m["name"].startswith(name)]) == 2
                else None
            )
        )
        assert {machine(cloud, f"{name}-{n}")["zone"] for n in (0, 1)} == {"europe-west1-c"}
        compute.wait(groups.delete_unary(**where, instance_group_manager=name))

    def test_lists(self, compute: Compute) -> None:
        group = compute.group(compute.template("", labels={"drillyard-lease": "dy-1"}))
        names = sorted(a_name() for _ in range(3))
        compute.create(group, *names)
        until(lambda: len(list(compute.listed("labels.drillyard-lease=dy-1"))) == 3)
        both = f"(labels.drillyard-lease=dy-1) AND (name={names[0]} OR name={names[1]})"
        assert sorted(one.name for one in compute.listed(both)) == names[:2]
        assert not list(compute.listed("labels.drillyard-lease=dy-2"))
        request = compute_v1.ListInstancesRequest(
            project=compute.project, zone=ZONE, max_results=1, filter="labels.drillyard-lease:*"
        )
        assert sorted(one.name for one in compute.instances.list(request=request)) == names
        compute.drop(group)

    def test_a_repeated_request_is_done_once(self, compute: Compute) -> None:
        group = compute.group(compute.template())
        name, key = a_name(), str(uuid.uuid4())
        request = compute_v1.CreateInstancesInstanceGroupManagerRequest(
            project=compute.project, zone=ZONE, instance_group_manager=group, request_id=key,
            instance_group_managers_create_instances_request_resource={
                "instances": [{"name": name}]
            },
        )  # fmt: skip
        first = compute.instance_group_managers.create_instances_unary(request=request)
        second = compute.instance_group_managers.create_instances_unary(request=request)
        assert first.name == second.name and set(compute.managed(group)) == {name}
        compute.drop(group)

    def test_a_taken_name(self, compute: Compute) -> None:
        template = compute.template()
        group = compute.group(template)
        compute.create(group, "same-name")
        with pytest.raises(errors.BadRequest):
            compute.create(group, "same-name")
        with pytest.raises(errors.Conflict):
            compute.instance_group_managers.insert_unary(
                project=compute.project, zone=ZONE,
                instance_group_manager_resource={"name": group, "instance_template": template},
            )  # fmt: skip
        compute.drop(group)


class TestMachine:
    def test_runs_its_script_with_an_identity(self, compute: Compute, cloud: GcpEmulator) -> None:
        """The start-up script reads metadata, gets a token, and deletes its machine by it."""
        script = """#!/bin/bash
MD=http://$GCE_METADATA_HOST/computeMetadata/v1
get() { curl -sf -H Metadata-Flavor:Google "$MD/$1"; }
echo "name $(get instance/name) job $(get instance/attributes/job)"
"$DRILLYARD_PREFIX/bin/python" - <<'PY'
import json, os, sys
import google.auth, google.auth.transport.requests
import urllib.request
base = f"http://{os.environ['GCE_METADATA_HOST']}/computeMetadata/v1/"
def get(path):
    ask = urllib.request.Request(base + path, headers={"Metadata-Flavor": "Google"})
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(ask).read().decode()
credentials, project = google.auth.default()
session = google.auth.transport.requests.AuthorizedSession(credentials)
group = get("instance/attributes/created-by")
zone = get("instance/zone").rpartition("/")[2]
me = f"projects/{project}/zones/{zone}/instances/{get('instance/name')}"
url = f"https://compute.googleapis.com/compute/v1/{group}/deleteInstances"
session.post(url, json={"instances": [me]}).raise_for_status()
PY
"""
        group = compute.group(compute.template(script))
        name = a_name()
        compute.create(group, name, job="run/7")
        until(lambda: not compute.managed(group))
        assert f"name {name} job run/7" in cloud.serial(name)
        callers = {entry["caller"] for entry in cloud.log(f"{group}/deleteInstances")}
        assert callers == {f"{cloud.service_account}|{name}"}
        assert not (cloud.folder / "machines" / machine(cloud, name)["id"]).exists()
        compute.drop(group)

    def test_metadata_needs_the_flavour(self, compute: Compute, cloud: GcpEmulator) -> None:
        group = compute.group(
            compute.template("#!/bin/bash\necho at $GCE_METADATA_HOST\nsleep 99")
        )
        name = a_name()
        compute.create(group, name)
        until(lambda: "at 127" in cloud.serial(name))
        host = cloud.serial(name).partition("at ")[2].split()[0]
        url = f"http://{host}/computeMetadata/v1/instance/preempted"
        assert requests.get(url).status_code == 403
        good = requests.get(url, headers={"Metadata-Flavor": "Google"})
        assert (good.text, good.headers["Metadata-Flavor"]) == ("FALSE", "Google")
        compute.drop(group)
        assert requests.get(url, headers={"Metadata-Flavor": "Google"}).status_code == 404

    def test_serial_port_goes_on(self, compute: Compute, cloud: GcpEmulator) -> None:
        group = compute.group(compute.template("#!/bin/bash\necho one\nsleep 99"))
        name = a_name()
        compute.create(group, name)
        where = {"project": compute.project, "zone": ZONE, "instance": name}
        until(lambda: "one" in cloud.serial(name))
        found = compute.instances.get_serial_port_output(**where)
        assert "one" in found.contents
        request = compute_v1.GetSerialPortOutputInstanceRequest(**where, start=found.next_)
        again = compute.instances.get_serial_port_output(request=request)
        assert (again.contents, again.next_) == ("", found.next_)
        compute.drop(group)

    @pytest.mark.parametrize("what", ["preempt", "cut"])
    def test_preemption(self, compute: Compute, cloud: GcpEmulator, what: str) -> None:
        """With notice the machine sees it coming and has time; without it is just gone."""
        script = """#!/bin/bash
watch() { curl -s -H Metadata-Flavor:Google \
  "http://$GCE_METADATA_HOST/computeMetadata/v1/instance/preempted?wait_for_change=true"; }
trap 'echo saved; exit 0' TERM
echo ready
(echo "preempted is $(watch)") &
while true; do sleep 0.05; done
"""
        group = compute.group(compute.template(script))
        name = a_name()
        compute.create(group, name)
        until(lambda: "ready" in cloud.serial(name))
        cloud.happen(what, name)
        gone = until(lambda: machine(cloud, name)["gone"] and machine(cloud, name))
        assert gone["preempted"] and gone["ended_by"] == "preempted"
        assert ("saved" in cloud.serial(name)) == (what == "preempt")
        assert not list(marked(gone["id"], MACHINE_MARK))
        # DO_NOTHING: the group does not miss it, and does not make it again.
        assert compute.managed(group)[name].instance_status == ""
        compute.drop(group)

    def test_the_notice_ends(self, compute: Compute, cloud: GcpEmulator) -> None:
        """Who does not listen is cut off."""
        cloud.physics(notice_s=0.3)
        deaf = "#!/bin/bash\ntrap '' TERM\necho ready\nwhile true; do sleep 0.05; done"
        group = compute.group(compute.template(deaf))
        name = a_name()
        compute.create(group, name)
        until(lambda: "ready" in cloud.serial(name))
        found = machine(cloud, name)
        compute.instances.simulate_maintenance_event_unary(
            project=compute.project, zone=ZONE, instance=name
        )
        until(lambda: machine(cloud, name)["gone"])
        assert not list(marked(found["id"], MACHINE_MARK))
        compute.drop(group)

    def test_repair_brings_it_back(self, compute: Compute, cloud: GcpEmulator) -> None:
        group = compute.group(compute.template(SLEEPER), action="REPAIR")
        name = a_name()
        compute.create(group, name, job="7")
        first = running(compute, group, name).id
        cloud.happen("crash", name)
        again = until(lambda: (one := running(compute, group, name)).id != first and one)
        assert again.preserved_state_from_config.metadata["job"] == "7"
        compute.drop(group)

    def test_its_time_is_limited(self, compute: Compute, cloud: GcpEmulator) -> None:
        scheduling = {
            "provisioning_model": "STANDARD",
            "max_run_duration": {"seconds": 30},
            "instance_termination_action": "DELETE",
        }
        group = compute.group(compute.template(SLEEPER, scheduling=scheduling))
        name = a_name()
        compute.create(group, name)
        running(compute, group, name)
        cloud.advance(29)
        assert name in compute.managed(group)
        cloud.advance(2)
        until(lambda: not compute.managed(group))
        assert machine(cloud, name)["ended_by"] == "reached its limit"
        compute.drop(group)

    def test_boot_failure(self, compute: Compute, cloud: GcpEmulator) -> None:
        cloud.physics(boot_failures=1)
        group = compute.group(compute.template(SLEEPER))
        name = a_name()
        compute.create(group, name)
        running(compute, group, name)
        assert cloud.serial(name) == ""
        compute.drop(group)

    def test_a_disk_outlives_a_machine_by_default(
        self, compute: Compute, cloud: GcpEmulator
    ) -> None:
        """The API's default, and how disks leak."""
        group = compute.group(compute.template(disks=[{"boot": True}]))
        name = a_name()
        compute.create(group, name)
        running(compute, group, name)
        compute.drop(group)
        assert f"zones/{ZONE}/disks/{name}" in cloud.state()["disks"]


class TestCapacity:
    def test_stock_out_is_told_and_tried_again(self, compute: Compute, cloud: GcpEmulator) -> None:
        cloud.physics(stockouts=[{"zone": ZONE, "times": 3}])
        group = compute.group(compute.template())
        name = a_name()
        compute.create(group, name)
        last = until(lambda: compute.managed(group)[name].last_attempt.errors.errors)
        assert last[0].code == "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"
        found = compute.instance_group_managers.list_errors(
            project=compute.project, zone=ZONE, instance_group_manager=group
        )
        assert {one.error.code for one in found} == {last[0].code}
        running(compute, group, name)
        compute.drop(group)

    def test_quota(self, compute: Compute, cloud: GcpEmulator) -> None:
        cloud.ask("catalogue", quotas={REGION: {"NVIDIA_T4_GPUS": 1}})
        more = {
            "machine_type": "n1-standard-1",
            "guest_accelerators": [
                {"accelerator_type": "nvidia-tesla-t4", "accelerator_count": 1}
            ],
            "scheduling": {"on_host_maintenance": "TERMINATE"},
        }
        group = compute.group(compute.template(**more))
        one, two = a_name(), a_name()
        compute.create(group, one, two)
        until(lambda: any(m.last_attempt.errors.errors for m in compute.managed(group).values()))
        (last,) = [
            e for m in compute.managed(group).values() for e in m.last_attempt.errors.errors
        ]
        assert last.code == "QUOTA_EXCEEDED" and "NVIDIA_T4_GPUS" in last.message
        region = compute.regions.get(project=compute.project, region=REGION)
        (quota,) = [q for q in region.quotas if q.metric == "NVIDIA_T4_GPUS"]
        assert (quota.limit, quota.usage) == (1, 1)
        compute.drop(group)

    def test_an_instance_by_itself_fails_in_its_operation(
        self, compute: Compute, cloud: GcpEmulator
    ) -> None:
        cloud.physics(stockouts=[{"zone": ZONE}])
        request = compute_v1.InsertInstanceRequest(
            project=compute.project, zone=ZONE, instance_resource={"name": a_name()},
            source_instance_template=compute.template(),
        )  # fmt: skip
        done = compute.wait(compute.instances.insert_unary(request=request))
        assert done.error.errors[0].code.startswith("ZONE_RESOURCE_POOL_EXHAUSTED")

    def test_what_there_is(self, compute: Compute) -> None:
        found = compute.machine_types.get(
            project=compute.project, zone=ZONE, machine_type="n2-highcpu-8"
        )
        assert (found.guest_cpus, found.memory_mb) == (8, 8192)
        with pytest.raises(errors.NotFound):
            compute.machine_types.get(project=compute.project, zone=ZONE, machine_type="n9-x-1")
        with pytest.raises(errors.NotFound):
            compute.zones.get(project=compute.project, zone="mars-north1-a")
        listed = compute.accelerator_types.list(project=compute.project, zone=ZONE)
        assert "nvidia-tesla-t4" in {one.name for one in listed}


class TestFaults:
    def test_what_the_client_does_not_retry(self, compute: Compute, cloud: GcpEmulator) -> None:
        for status, kind in ((429, errors.TooManyRequests), (500, errors.InternalServerError)):
            cloud.fault("instanceGroupManagers$", method="POST", status=status, times=1)
            with pytest.raises(kind):
                compute.group(compute.template())
        cloud.fault("instanceGroupManagers$", method="POST", status=403, times=1)
        with pytest.raises(errors.Forbidden) as raised:
            compute.group(compute.template())
        assert raised.value.errors[0]["reason"] == "rateLimitExceeded"

    def test_done_and_nothing_done(self, compute: Compute, cloud: GcpEmulator) -> None:
        group = compute.group(compute.template())
        cloud.physics(false_done=[{"kind": "delete", "times": 1}])
        assert compute.drop(group).status == compute_v1.Operation.Status.DONE
        assert [g for g in cloud.state()["groups"] if group in g["key"]]
        compute.drop(group)
        assert not [g for g in cloud.state()["groups"] if group in g["key"]]

    def test_lists_lag(self, compute: Compute, cloud: GcpEmulator) -> None:
        cloud.physics(listing_lag_s=1000.0)
        group = compute.group(compute.template("", labels={"lag": "yes"}))
        name = a_name()
        compute.create(group, name)
        running(compute, group, name)
        assert not list(compute.listed("labels.lag=yes"))
        cloud.advance(1000)
        assert [one.name for one in compute.listed("labels.lag=yes")] == [name]
        compute.drop(group)
        assert [one.name for one in compute.listed("labels.lag=yes")] == [name]
        cloud.advance(1000)
        assert not list(compute.listed("labels.lag=yes"))

    def test_missing_rights_and_services(self, compute: Compute, cloud: GcpEmulator) -> None:
        cloud.ask("project", denied=["compute.instanceGroupManagers.delete"])
        group = compute.group(compute.template())
        with pytest.raises(errors.Forbidden, match=r"compute\.instanceGroupManagers\.delete"):
            compute.drop(group)
        cloud.ask("project", denied=[], disabled=["compute.googleapis.com"])
        with pytest.raises(errors.Forbidden, match="disabled"):
            compute.drop(group)
        cloud.ask("project", disabled=[])
        compute.drop(group)

    def test_a_machine_preempted_by_what_it_writes(
        self, compute: Compute, cloud: GcpEmulator
    ) -> None:
        requests.post(f"{cloud.storage_url}/storage/v1/b", json={"name": "written"})
        script = """#!/bin/bash
token=$(curl -sf -H Metadata-Flavor:Google \
  "http://$GCE_METADATA_HOST/computeMetadata/v1/instance/service-accounts/default/token" |
  "$DRILLYARD_PREFIX/bin/python" -c 'import json,sys; print(json.load(sys.stdin)["access_token"])')
for n in 1 2 3 4 5 6 7 8 9; do
  curl -sf -H "Authorization: Bearer $token" --data-binary x \
    "https://storage.googleapis.com/upload/storage/v1/b/written/o?uploadType=media&name=c/$n"
  sleep 0.5
done
"""
        cloud.ask("trigger", objects="written/c/", count=2, what="cut")
        group = compute.group(compute.template(script))
        name = a_name()
        compute.create(group, name)
        until(lambda: machine(cloud, name)["gone"])
        assert len(cloud.ask("objects", bucket="written")) in (2, 3)
        compute.drop(group)


@pytest.mark.parametrize("victim", ["cloud.pid", "os.getpid()"])
def test_nothing_outlives_a_killed_emulator(tmp_path: Path, victim: str) -> None:
    """Whatever kills the emulator, or the program that started it, ends its machines."""
    code = f"""
import os, signal, sys, time
from pathlib import Path
from drillyard.testing.cloud.handle import GcpEmulator
from tests.emulated.compute_client import Compute
cloud = GcpEmulator(Path({str(tmp_path)!r}))
cloud.physics(boot_s=0.0)
compute = Compute(cloud)
compute.create(compute.group(compute.template({SLEEPER!r})), "left-alone")
cloud.wait(lambda state: state["machines"][0]["status"] == "RUNNING")
print(cloud.pid, cloud.state()["machines"][0]["id"], flush=True)
sys.stdin.readline()
os.kill({victim}, signal.SIGKILL)
time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert process.stdout is not None and process.stdin is not None
    pid, number = process.stdout.readline().split()
    emulator = ProcessId.of(int(pid))
    assert emulator is not None and list(marked(number, MACHINE_MARK))
    process.stdin.write("go\n")
    process.stdin.flush()
    until(lambda: not list(marked(number, MACHINE_MARK)))
    until(lambda: not emulator.alive())
    process.kill()
    process.communicate()
