"""Compute Engine of the emulator with too little capacity, and with faults."""

import pytest
import requests

pytest.importorskip("google.cloud.compute_v1")
from google.api_core import exceptions as errors
from google.cloud import compute_v1

from tests.helpers.compute_client import REGION, ZONE, a_name, machine, running
from tests.helpers.patience import until


@pytest.fixture(scope="module")
def cloud(quick_cloud):
    return quick_cloud


class TestCapacity:
    def test_stock_out_is_told_and_tried_again(self, compute, cloud):
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

    def test_a_quota_refuses_what_exceeds_it(self, compute, cloud):
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

    def test_an_instance_by_itself_fails_in_its_operation(self, compute, cloud):
        cloud.physics(stockouts=[{"zone": ZONE}])
        request = compute_v1.InsertInstanceRequest(
            project=compute.project,
            zone=ZONE,
            instance_resource={"name": a_name()},
            source_instance_template=compute.template(),
        )
        done = compute.wait(compute.instances.insert_unary(request=request))
        assert done.error.errors[0].code.startswith("ZONE_RESOURCE_POOL_EXHAUSTED")

    def test_what_there_is(self, compute):
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
    def test_what_the_client_does_not_retry(self, compute, cloud):
        for status, kind in ((429, errors.TooManyRequests), (500, errors.InternalServerError)):
            cloud.fault("instanceGroupManagers$", method="POST", status=status, times=1)
            with pytest.raises(kind):
                compute.group(compute.template())
        cloud.fault("instanceGroupManagers$", method="POST", status=403, times=1)
        with pytest.raises(errors.Forbidden) as raised:
            compute.group(compute.template())
        assert raised.value.errors[0]["reason"] == "rateLimitExceeded"

    def test_done_and_nothing_done(self, compute, cloud):
        group = compute.group(compute.template())
        cloud.physics(false_done=[{"kind": "delete", "times": 1}])
        assert compute.drop(group).status == compute_v1.Operation.Status.DONE
        assert [g for g in cloud.state()["groups"] if group in g["key"]]
        compute.drop(group)
        assert not [g for g in cloud.state()["groups"] if group in g["key"]]

    def test_lists_lag(self, compute, cloud):
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

    def test_missing_rights_and_services(self, compute, cloud):
        cloud.ask("project", denied=["compute.instanceGroupManagers.delete"])
        group = compute.group(compute.template())
        with pytest.raises(errors.Forbidden, match=r"compute\.instanceGroupManagers\.delete"):
            compute.drop(group)
        cloud.ask("project", denied=[], disabled=["compute.googleapis.com"])
        with pytest.raises(errors.Forbidden, match="disabled"):
            compute.drop(group)
        cloud.ask("project", disabled=[])
        compute.drop(group)

    def test_a_machine_preempted_by_what_it_writes(self, compute, cloud):
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


class TestConflicts:
    def test_a_group_that_is_being_made_takes_no_change(self, compute, cloud):
        template = compute.template()
        before = cloud.state()["physics"]["operation_s"]
        cloud.physics(operation_s=30.0)
        try:
            group = a_name()
            body = {
                "name": group,
                "base_instance_name": group,
                "instance_template": f"projects/{compute.project}/{template}",
                "target_size": 0,
            }
            place = {"project": compute.project, "zone": ZONE}
            managers = compute.instance_group_managers
            managers.insert_unary(instance_group_manager_resource=body, **place)
            for change in (
                lambda: managers.resize_unary(instance_group_manager=group, size=1, **place),
                lambda: managers.delete_unary(instance_group_manager=group, **place),
            ):
                with pytest.raises(errors.BadRequest, match="is not ready"):
                    change()
            cloud.advance(31.0)
            managers.resize_unary(instance_group_manager=group, size=0, **place)
            managers.resize_unary(instance_group_manager=group, size=0, **place)
            cloud.physics(one_change_at_a_time=True)
            with pytest.raises(errors.BadRequest, match="is not ready"):
                managers.resize_unary(instance_group_manager=group, size=0, **place)
            cloud.advance(31.0)
        finally:
            cloud.physics(operation_s=before, one_change_at_a_time=False)
        compute.drop(group)
