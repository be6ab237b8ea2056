"""``plan``, ``run`` and ``doctor`` on the emulated Google Cloud: refused before any change."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from drillyard.cli.main import main
from drillyard_emulators.http.handle import GcpEmulator

FILE = """schema: 1
name: wanted
workload: mock
seeds: [1, 2, 3]
resources: {{workers: 3}}
backend: gcp
backends:
  gcp:
    project: {project}
    bucket: {bucket}
    service_account: {account}
    zones: [europe-west1-b, europe-west1-c]
    machine_types: [n2-highcpu-8]
    image_family: projects/debian-cloud/global/images/family/debian-12
budget: {{max_hours: 2, max_cost: 5}}
"""
READING = (":testIamPermissions", ":getIamPolicy", "/token", ":signBlob")


@pytest.fixture(scope="module")
def own_cloud(tmp_path_factory):
    with GcpEmulator(tmp_path_factory.mktemp("plan-cloud"), project="lab-1234") as cloud:
        yield cloud


@pytest.fixture
def bench(own_cloud, tmp_path, monkeypatch):
    """The cloud as it was made, this process's environment pointing to it, a file to run."""
    for name, value in own_cloud.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    account = own_cloud.service_account
    text = FILE.format(project="lab-1234", bucket="lab-runs", account=account)
    (tmp_path / "g.yaml").write_text(text)
    yield own_cloud
    own_cloud.clear_faults()
    own_cloud.ask("project", denied=[], disabled=[], accounts=accounts(own_cloud))
    own_cloud.ask("catalogue", quotas=DEFAULT_QUOTAS, missing=[])


DEFAULT_QUOTAS = {"europe-west1": {"N2_CPUS": 2400, "PREEMPTIBLE_CPUS": 4800}}


def accounts(cloud: GcpEmulator) -> list[str]:
    """The machines' account, and our own."""
    key = json.loads(Path(cloud.env["GOOGLE_APPLICATION_CREDENTIALS"]).read_text())
    return [cloud.service_account, str(key["client_email"])]


def changes(cloud: GcpEmulator, since: int) -> list[str]:
    """Calls after ``since`` that could have changed something."""
    return [
        f"{entry['method']} {entry['host']}{entry['path']}"
        for entry in cloud.log(since=since)
        if entry["method"] != "GET" and not str(entry["path"]).endswith(READING)
    ]


def bucket(cloud: GcpEmulator, name: str, **document: Any) -> None:
    """A bucket of the project's own."""
    made = urllib.request.Request(
        f"{cloud.storage_url}/storage/v1/b?project=lab-1234",
        json.dumps({"name": name, "location": "EUROPE-WEST1", **document}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(made, timeout=30):
        pass


def now(cloud: GcpEmulator) -> int:
    return max((int(entry["number"]) for entry in cloud.log()), default=0)


def refused(row: int, said: str, *changes: str, **world: Any) -> tuple[Any, ...]:
    """A row of the catalogue: what is said, values for ``--set`` or options, and the project."""
    words = [w for text in changes for w in ([text] if text[:2] == "--" else ["--set", text])]
    return row, words, world, said


REFUSED: list[Any] = [
    refused(48, "budget.max_hours", "budget.max_hours=0"),
    refused(48, "max_hours", "budget.max_hours=null"),
    refused(48, "can run for 30 s to 120 days", "budget.max_hours=0.001"),
    refused(49, "max_cost", "budget.max_cost=null"),
    refused(49, "more than max_cost = 1", "budget.max_cost=1"),
    refused(
        50,
        "no room for 1000 machines",
        "resources.workers=1000",
        "seeds={many}",
        "budget.max_cost=9999",
    ),
    refused(51, "'n9-mega' is in none of", "backends.gcp.machine_types=[n9-mega]"),
    refused(
        52,
        "nvidia-mega is in none of",
        "backends.gcp.machine_types=[n1-standard-4]",
        "backends.gcp.gpu_type=nvidia-mega",
    ),
    refused(52, "cannot be attached", "backends.gcp.gpu_type=nvidia-tesla-t4"),
    refused(53, "is a region: a zone is expected", "backends.gcp.zones=[us-east1]"),
    refused(53, "there is no zone 'mars-west1-a'", "backends.gcp.zones=[mars-west1-a]"),
    refused(55, "raise N2_CPUS", quotas={"europe-west1": {"PREEMPTIBLE_CPUS": 0, "N2_CPUS": 0}}),
    refused(
        56,
        "no Google credentials",
        environment={"GOOGLE_APPLICATION_CREDENTIALS": "/nowhere.json"},
    ),
    refused(56, "does not see project", "backends.gcp.project=other-project"),
    refused(57, "compute.instances.delete", denied=["compute.instances.delete"]),
    refused(57, "could not be found and deleted", denied=["compute.instanceGroupManagers.list"]),
    refused(57, "there is no service account", accounts=[]),
    refused(
        58,
        "has a retention policy and it is locked",
        bucket={"retentionPolicy": {"retentionPeriod": "9", "isLocked": True}},
    ),
    refused(58, "cannot be read", owner="somebody"),
    refused(59, "scheme 'ftp'", "--store=ftp://host/place"),
    refused(59, "is a system folder", "--store=file:///etc"),
    refused(60, "leads out of its folder", "--store=gs://lab-runs/../x"),
    refused(60, "leads out of its folder", "--store=gs://lab-runs/%2e%2e/x"),
    refused(61, "an address of machine metadata", "--store=http://169.254.169.254/"),
    refused(
        61, "an address of machine metadata", "tracking.mlflow=http://metadata.google.internal/"
    ),
    refused(62, "a user name or password", "tracking.mlflow=http://user:pw@host"),
    refused(83, "is not pinned", "requirements=[git+http://host/x]"),
    refused(84, "by digest", "backends.gcp.container=host/image:latest"),
    refused(85, "is not a label", "backends.gcp.labels={team: $(reboot)}"),
    refused(85, "is not a network tag", "backends.gcp.tags=[$(reboot)]"),
    refused(86, "is not a label", "backends.gcp.labels={Team: rl}"),
    refused(86, "each at most 63 long", f"backends.gcp.labels={{team: {'x' * 64}}}"),
    refused(0, "compute.googleapis.com", disabled=["compute.googleapis.com"]),
    refused(0, "machines of Google Cloud cannot reach", "--store=./here"),
    refused(
        0,
        "there is no image",
        "backends.gcp.image=projects/lab-1234/global/images/none",
        "backends.gcp.image_family=null",
    ),
    refused(90, "s ahead of Google's: its credentials", skew_s=120.0),
]


@pytest.mark.parametrize(("row", "words", "world", "said"), REFUSED)
def test_refused_with_no_call_that_changes_anything(
    row, words, world, said, bench, monkeypatch, capsys
):
    if "quotas" in world:
        bench.ask("catalogue", quotas=world["quotas"])
    if "accounts" in world or "denied" in world or "disabled" in world:
        known = accounts(bench)[1:] if world.get("accounts") == [] else accounts(bench)
        given = {"denied": [], "disabled": [], **world, "accounts": known}
        bench.ask("project", **given)
    if "bucket" in world or "owner" in world:
        name = f"taken-{row}-{len(world)}{'-o' if 'owner' in world else ''}"
        if "owner" in world:
            bench.ask("bucket", name=name, owner=world["owner"])
        else:
            bucket(bench, name, **world["bucket"])
        words = ["--set", f"backends.gcp.bucket={name}", *words]
    for name, value in world.get("environment", {}).items():
        monkeypatch.setenv(name, value)
    if "skew_s" in world:
        real = time.time
        monkeypatch.setattr(
            "drillyard.system.clock.SystemClock.now", lambda self: real() + world["skew_s"]
        )
    many = json.dumps(list(range(1, 1001)))
    words = [word.replace("{many}", many) for word in words]
    since = now(bench)
    for command in ("plan", "run") if row in (49, 57) else ("run",):
        assert main([command, "g.yaml", *words]) == 2
        output = " ".join("".join(capsys.readouterr()).split())
        assert said in output, output
        assert "Traceback" not in output
    assert "pw@" not in output
    assert changes(bench, since) == []
    assert not Path("drillyard-runs").exists() and not Path("home", "intents").exists()


def test_a_plan_that_is_possible_changes_nothing_and_shows_the_bill(bench, capsys):
    since = now(bench)
    for host in ("compute", "storage", "serviceusage"):  # an answer of each is lost on its way
        bench.fault(f"GET {host}.googleapis.com", lose=True, times=1)
    assert main(["plan", "g.yaml", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["possible"] and found["machines"] == 3 and found["store"] == "gs://lab-runs"
    cost = found["cost"]
    assert 0 < cost["per_hour"] < 2.5 and cost["total"] == pytest.approx(2 * cost["per_hour"])
    assert {p["what"].split()[0] for p in cost["parts"]} == {
        "machine",
        "disk",
        "managed",
        "instance",
        "bucket",
        "margin",
    }
    assert changes(bench, since) == []
    state = bench.state()
    assert not state["groups"] and not state["templates"] and not state["machines"]


def test_a_bucket_far_away_is_a_warning_and_strict_refuses_it(bench, capsys):
    bucket(bench, "far-runs", location="US-EAST1")
    words = ["plan", "g.yaml", "--set", "backends.gcp.bucket=far-runs"]
    assert main(words) == 0
    assert "traffic between them costs" in " ".join(capsys.readouterr().out.split())
    assert main([*words, "--strict"]) == 2


def test_doctor_asks_without_a_file(bench, monkeypatch, capsys):
    for name, value in (
        ("PROJECT", "lab-1234"),
        ("BUCKET", "lab-runs"),
        ("SERVICE_ACCOUNT", bench.service_account),
        ("IMAGE_FAMILY", "projects/debian-cloud/global/images/family/debian-12"),
    ):
        monkeypatch.setenv(f"DRILLYARD_GCP_{name}", value)
    bench.ask(
        "project",
        denied=["compute.instances.delete", "storage.objects.delete"],
        disabled=[],
        accounts=accounts(bench),
    )
    bucket(bench, "lab-runs")
    since = now(bench)
    assert main(["doctor", "--on", "gcp", "--json"]) == 4
    findings = json.loads(capsys.readouterr().out)["findings"]
    faults = {f["subject"]: f for f in findings if f["severity"] == "error"}
    assert set(faults) == {"gcp rights", "gcp bucket"}
    assert "gcloud iam roles create drillyardDriver" in faults["gcp rights"]["fix"]
    assert changes(bench, since) == []


def test_a_bucket_is_tried_before_a_machine_is_made(bench, monkeypatch, capsys):
    """Rights look good, and a policy of somebody else refuses: no machine is asked for."""
    for name, value in (
        ("PROJECT", "lab-1234"),
        ("BUCKET", "tried-runs"),
        ("SERVICE_ACCOUNT", bench.service_account),
    ):
        monkeypatch.setenv(f"DRILLYARD_GCP_{name}", value)
    bucket(bench, "tried-runs")
    assert main(["doctor", "--on", "gcp", "--write", "--json"]) in (0, 4)
    tried = [
        f for f in json.loads(capsys.readouterr().out)["findings"] if "tested" in f["subject"]
    ]
    assert [f["message"] for f in tried] == ["gs://tried-runs: written, read and deleted"]
    assert list(bench.ask("objects", bucket="tried-runs")) == []

    bench.fault(
        "DELETE storage.googleapis.com/storage/v1/b/tried-runs/o/canary",
        status=403,
        reason="retentionPolicyNotMet",
        message="under a hold",
    )
    since = now(bench)
    assert main(["run", "g.yaml", "--set", "backends.gcp.bucket=tried-runs"]) == 4
    said = " ".join("".join(capsys.readouterr()).split())
    assert "the store cannot be cleaned up" in said and "under a hold" in said
    assert not [c for c in changes(bench, since) if "compute" in c]
    (left,) = bench.ask("objects", bucket="tried-runs")
    assert left.startswith("canary-")
    assert main(["doctor", "--on", "gcp", "--write"]) == 4


@pytest.mark.parametrize(
    ("machine", "spot", "code", "message"),
    [
        ("a3-highgpu-1g", True, 2, "raise PREEMPTIBLE_NVIDIA_H100_GPUS"),
        ("a3-highgpu-8g", False, 0, "list GPUS_PER_GPU_FAMILY with a region"),
        ("a3-ultragpu-8g", True, 0, "list PREEMPTIBLE_NVIDIA_H200_GPUS with"),
        ("a4-highgpu-8g", True, 0, "list PREEMPTIBLE_NVIDIA_B200_GPUS with"),
    ],
)
def test_no_plan_says_that_a_quota_of_zero_has_room(machine, spot, code, message, bench, capsys):
    series = [f"NVIDIA_{name}_GPUS" for name in ("H100", "H200", "B200")]
    none = dict.fromkeys([*series, *(f"PREEMPTIBLE_{name}" for name in series)], 0)
    bench.ask("catalogue", quotas={"europe-west1": none})
    settings = {"zones": "[europe-west1-b]", "disk_type": "hyperdisk-balanced", "spot": spot}
    values = {f"backends.gcp.{key}": value for key, value in settings.items()}
    values |= {"backends.gcp.machine_types": f"[{machine}]", "budget.max_cost": 9999}
    values |= {"resources.workers": 1, "seeds": "[1]"}
    words = [w for k, v in values.items() for w in ("--set", f"{k}={str(v).lower()}")]
    assert main(["plan", "g.yaml", *words]) == code
    output = " ".join("".join(capsys.readouterr()).split())
    assert (
        message in output
        and "; room for" not in output
        and " room for 1 " not in output.replace("no room for 1 ", "")
    )


def test_an_image_for_cpus_is_refused_for_machines_with_gpus(bench, capsys):
    bench.ask("catalogue", image_labels={"drillyard": "image", "torch": "cpu"}, images=["mine"])
    words = ["--set", "resources.gpus=1", "--set", "backends.gcp.machine_types=[g2-standard-4]"]
    try:
        assert main(["plan", "g.yaml", *words]) == 2
    finally:
        bench.ask("catalogue", image_labels={})
    output = " ".join("".join(capsys.readouterr()).split())
    assert "driver: the image has torch for CPUs: no L4 would be used" in output
    assert "an image whose torch is a build cu130" in output
