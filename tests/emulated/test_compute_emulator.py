"""Compute Engine of the emulator, as the real client library and a real machine meet it."""

import os
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest
import requests

pytest.importorskip("google.cloud.compute_v1")
from google.api_core import exceptions as errors
from google.cloud import compute_v1

from drillyard.system.processes import ProcessId
from tests.helpers.compute_client import REGION, ZONE, a_name, machine, running
from tests.helpers.patience import until
from tests.helpers.processes import machines_of

SLEEPER = '#!/bin/bash\necho "hello from $HOSTNAME"\nexec sleep 600\n'


@pytest.fixture(scope="module")
def cloud(quick_cloud):
    return quick_cloud


def test_a_script_that_a_process_holds_open_still_runs(tmp_path):
    """What is started in one thread inherits, for a moment, the file that another one writes."""
    from drillyard_emulators.http.machines import Machine

    disk, ended = tmp_path / "disk", threading.Event()
    disk.mkdir()
    with (
        (disk / "startup-script").open("w"),
        (disk / "shutdown-script").open("w"),
    ):
        one = Machine(
            "m",
            uuid.uuid4().hex,
            disk,
            tmp_path / "serial",
            dict(os.environ),
            "#!/usr/bin/env bash\ntrap 'exit 0' TERM\necho hello\nwhile :; do sleep 0.05; done\n",
            "#!/bin/bash\necho bye\n",
        )
        until(lambda: "hello" in one.serial.read_text())
        one.shut_down(60.0, ended.set)
        assert ended.wait(60.0)
    assert "bye" in one.serial.read_text()


class TestLife:
    def test_of_a_group(self, compute, cloud):
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

    def test_of_a_template(self, compute):
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

    def test_a_regional_group_avoids_a_full_zone(self, compute, cloud):
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

    def test_lists(self, compute):
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

    def test_a_repeated_request_is_done_once(self, compute):
        group = compute.group(compute.template())
        name, key = a_name(), str(uuid.uuid4())
        request = compute_v1.CreateInstancesInstanceGroupManagerRequest(
            project=compute.project,
            zone=ZONE,
            instance_group_manager=group,
            request_id=key,
            instance_group_managers_create_instances_request_resource={
                "instances": [{"name": name}]
            },
        )
        first = compute.instance_group_managers.create_instances_unary(request=request)
        second = compute.instance_group_managers.create_instances_unary(request=request)
        assert first.name == second.name and set(compute.managed(group)) == {name}
        compute.drop(group)

    def test_a_taken_name(self, compute):
        template = compute.template()
        group = compute.group(template)
        compute.create(group, "same-name")
        with pytest.raises(errors.BadRequest):
            compute.create(group, "same-name")
        with pytest.raises(errors.Conflict):
            compute.instance_group_managers.insert_unary(
                project=compute.project,
                zone=ZONE,
                instance_group_manager_resource={"name": group, "instance_template": template},
            )
        compute.drop(group)


class TestMachine:
    def test_runs_its_script_with_an_identity(self, compute, cloud):
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
me = f"zones/{zone}/instances/{get('instance/name')}"
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

    def test_metadata_needs_the_flavour(self, compute, cloud):
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

    def test_serial_port_goes_on(self, compute, cloud):
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
    def test_preemption(self, compute, cloud, what):
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
        assert not machines_of(cloud.greeting["mark"], gone["id"])
        # DO_NOTHING: the group does not miss it, and does not make it again.
        assert compute.managed(group)[name].instance_status == ""
        compute.drop(group)

    def test_the_notice_ends(self, compute, cloud):
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
        assert not machines_of(cloud.greeting["mark"], found["id"])
        compute.drop(group)

    def test_repair_brings_it_back(self, compute, cloud):
        group = compute.group(compute.template(SLEEPER), action="REPAIR")
        name = a_name()
        compute.create(group, name, job="7")
        first = running(compute, group, name).id
        cloud.happen("crash", name)
        again = until(lambda: (one := running(compute, group, name)).id != first and one)
        assert again.preserved_state_from_config.metadata["job"] == "7"
        compute.drop(group)

    def test_its_time_is_limited(self, compute, cloud):
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

    def test_boot_failure(self, compute, cloud):
        cloud.physics(boot_failures=1)
        group = compute.group(compute.template(SLEEPER))
        name = a_name()
        compute.create(group, name)
        running(compute, group, name)
        assert cloud.serial(name) == ""
        compute.drop(group)

    def test_a_disk_outlives_a_machine_by_default(self, compute, cloud):
        """The API's default, and how disks leak."""
        group = compute.group(compute.template(disks=[{"boot": True}]))
        name = a_name()
        compute.create(group, name)
        running(compute, group, name)
        compute.drop(group)
        assert f"zones/{ZONE}/disks/{name}" in cloud.state()["disks"]


@pytest.mark.parametrize("victim", ["cloud.pid", "os.getpid()"])
def test_nothing_outlives_a_killed_emulator(tmp_path, victim):
    """Whatever kills the emulator, or the program that started it, ends its machines."""
    code = f"""
import os, signal, sys, time
from pathlib import Path
from drillyard_emulators.http.handle import GcpEmulator
from tests.helpers.compute_client import Compute
cloud = GcpEmulator(Path({str(tmp_path)!r}))
cloud.physics(boot_s=0.0)
compute = Compute(cloud)
compute.create(compute.group(compute.template({SLEEPER!r})), "left-alone")
cloud.wait(lambda state: state["machines"][0]["status"] == "RUNNING")
print(cloud.pid, cloud.greeting["mark"], cloud.state()["machines"][0]["id"], flush=True)
sys.stdin.readline()
os.kill({victim}, signal.SIGKILL)
time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None and process.stdin is not None
    pid, mark, number = process.stdout.readline().split()
    emulator = ProcessId.of(int(pid))
    assert emulator is not None and machines_of(mark, number)
    process.stdin.write("go\n")
    process.stdin.flush()
    until(lambda: not machines_of(mark, number))
    until(lambda: not emulator.alive())
    process.kill()
    process.communicate()
