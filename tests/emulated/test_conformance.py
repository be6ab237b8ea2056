"""The emulator's traffic against Google's own documents: neither side may invent anything."""

import json
import sys

import pytest

pytest.importorskip("googleapiclient")

from drillyard_emulators.http.handle import GcpEmulator
from tests.helpers.compute_client import REGION, ZONE, Compute
from tests.helpers.discovery import discovery, traffic_problems
from tests.helpers.patience import until
from tests.helpers.processes import run_process


@pytest.fixture(scope="module")
def toured(tmp_path_factory):
    """An emulator on which every method was called by the real clients."""
    with GcpEmulator(tmp_path_factory.mktemp("tour"), bodies=True) as cloud:
        cloud.physics(boot_s=0.0, operation_s=0.02, stockouts=[{"zone": ZONE, "times": 1}])
        cloud.physics(processes=False)
        compute = Compute(cloud)
        project = {"project": compute.project}
        template = compute.template("#!/bin/bash\n", labels={"a": "b"})
        group = compute.group(template)
        compute.create(group, "m-1", "m-2", job="1")
        until(lambda: all(m.instance_status == "RUNNING" for m in compute.managed(group).values()))
        here = {**project, "zone": ZONE}
        one = compute.instances.get(**here, instance="m-1")
        compute.instances.set_labels_unary(
            **here,
            instance="m-1",
            instances_set_labels_request_resource={
                "labels": {"x": "y"},
                "label_fingerprint": one.label_fingerprint,
            },
        )
        compute.instances.get_serial_port_output(**here, instance="m-1")
        compute.instances.simulate_maintenance_event_unary(**here, instance="m-2")
        list(compute.listed("labels.a=b"))
        list(compute.instances.list(**here))
        list(compute.instance_group_managers.aggregated_list(**project))
        list(compute.instance_group_managers.list(**here))
        list(compute.instance_group_managers.list_errors(**here, instance_group_manager=group))
        compute.instance_group_managers.get(**here, instance_group_manager=group)
        compute.instance_group_managers.set_instance_template_unary(
            **here,
            instance_group_manager=group,
            instance_group_managers_set_instance_template_request_resource={
                "instance_template": f"projects/{compute.project}/{template}"
            },
        )
        compute.instance_group_managers.resize_unary(**here, instance_group_manager=group, size=3)
        compute.remove(group, "m-1")
        list(compute.instance_templates.list(**project))
        compute.instance_templates.get(**project, instance_template=template.rpartition("/")[2])
        list(compute.zones.list(**project))
        list(compute.regions.list(**project))
        compute.regions.get(**project, region=REGION)
        compute.projects.get(**project)
        list(compute.machine_types.list(**here))
        list(compute.machine_types.aggregated_list(**project))
        list(compute.accelerator_types.list(**here))
        list(compute.accelerator_types.aggregated_list(**project))
        compute.accelerator_types.get(**here, accelerator_type="nvidia-tesla-t4")
        compute.images.get_from_family(project="debian-cloud", family="debian-12")
        compute.networks.get(**project, network="default")
        compute.subnetworks.get(**project, region=REGION, subnetwork="default")
        list(compute.disks.list(**here))
        list(compute.disks.aggregated_list(**project))
        compute.drop(group)
        name = template.rpartition("/")[2]
        compute.wait(compute.instance_templates.delete_unary(**project, instance_template=name))
        list(compute.zone_operations.list(**here))
        run_process([sys.executable, "-c", STORAGE_TOUR], env=cloud.environ(), check=True)
        yield cloud


STORAGE_TOUR = """
import io, os
from google.cloud import storage
client = storage.Client()
bucket = client.bucket("tour-bucket")
bucket.iam_configuration.uniform_bucket_level_access_enabled = True
bucket.add_lifecycle_delete_rule(age=3)
bucket.create(location="europe-west1")
bucket.labels = {"a": "b"}
bucket.patch()
list(client.list_buckets())
bucket.test_iam_permissions(["storage.objects.get"])
bucket.get_iam_policy()
blobs = [bucket.blob(f"d/{n}") for n in range(3)]
for blob in blobs:
    blob.upload_from_string("x", if_generation_match=0)
big = bucket.blob("big", chunk_size=256 * 1024)
big.upload_from_file(io.BytesIO(os.urandom(600_000)), size=600_000)
big.download_as_bytes(); big.reload(); big.metadata = {"a": "b"}; big.patch(); big.update()
bucket.blob("all").compose(blobs)
bucket.copy_blob(big, bucket, "copy"); bucket.blob("re").rewrite(big)
bucket.move_blob(bucket.blob("copy"), "moved")
list(bucket.list_blobs(prefix="d/", delimiter="/", page_size=1, versions=True))
client.get_service_account_email()
bucket.delete(force=True)
"""


def test_neither_side_invents(toured):
    assert len(toured.log("compute.googleapis.com")) > 40
    assert len(toured.log("storage.googleapis.com")) > 30
    assert traffic_problems(toured.log()) == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"machine_types": ["n1-standard-4"], "gpu_type": "nvidia-tesla-t4", "gpu_count": 2},
            '"guestAccelerators": [{"acceleratorCount": 2, "acceleratorType": "nvidia-tesla-t4"}]',
        ),
        (
            {"public_ip": True, "tags": ["lab"], "subnetwork": "regions/r/subnetworks/s"},
            '"type": "ONE_TO_ONE_NAT"',
        ),
        ({"container": f"eu.gcr.io/p/i@sha256:{'0' * 64}", "spot": False}, "cos-stable"),
    ],
)
def test_templates_of_every_kind_are_googles(settings, said):
    """As the library writes them, against the schema of the method that takes them."""
    from google.cloud import compute_v1

    from drillyard.backend import Order
    from drillyard_backends.gcp.settings import read_settings
    from drillyard_backends.gcp.template import instance_template
    from drillyard_backends.gcp.zones import candidates

    account = "worker@lab-1234.iam.gserviceaccount.com"
    config = read_settings(
        {"project": "lab-1234", "bucket": "lab-runs", "service_account": account, **settings}
    )
    order = Order(lease_id="dy-0123456789", experiment="x", store_url="gs://lab-runs", gpus=1)
    body = instance_template(order, config, candidates(config)[0], "dy-0123456789", 0.0)
    text = compute_v1.InstanceTemplate.to_json(
        compute_v1.InstanceTemplate(body),
        use_integers_for_enums=False,
        including_default_value_fields=False,
    )
    insert = {
        "method": "POST",
        "path": "/compute/v1/projects/lab-1234/global/instanceTemplates",
        "query": "",
        "status": 200,
        "asked": json.loads(text),
        "answered": {"name": "op"},
    }
    assert discovery("compute.v1").problems(insert) == []
    assert said in json.dumps(json.loads(text), sort_keys=True)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"answered": {"name": "x", "colour": "red"}}, ".colour: no such field"),
        ({"answered": {"status": "HAPPY"}}, ".status: 'HAPPY' is none of"),
        ({"answered": {"id": 7}}, ".id: 7 is not a valid string"),
        (
            {"answered": {"disks": [{"boot": "yes"}]}},
            ".disks[0].boot: 'yes' is not a valid boolean",
        ),
        ({"query": "colour=red"}, "no query parameter 'colour'"),
        ({"path": "/compute/v1/projects/p/zones/z/castles/x"}, "no such method"),
    ],
)
def test_the_check_sees_inventions(change, text):
    """Otherwise the test above would prove nothing."""
    good = {
        "method": "GET",
        "path": "/compute/v1/projects/p/zones/z/instances/i",
        "query": "",
        "status": 200,
        "asked": None,
        "answered": {"name": "i", "status": "RUNNING"},
    }
    compute = discovery("compute.v1")
    assert compute.problems(good) == []
    (found,) = compute.problems({**good, **change})
    assert text in found
