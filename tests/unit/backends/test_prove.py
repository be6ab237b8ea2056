"""The parts of ``drillyard prove`` that need no cloud."""

from __future__ import annotations

import contextlib
import importlib.resources
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from drillyard.backend import Order
from drillyard.documents.json_types import JsonObject
from drillyard.errors import ConfigError, UserError
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import WorkerRecord
from drillyard.runs.wheels import WheelFile, WheelSet
from drillyard.system.clock import SYSTEM
from drillyard.worker.gpu import NOT_USABLE
from drillyard_backends.azure.prove import jobs as azure_jobs
from drillyard_backends.azure.prove import reading as azure_reading
from drillyard_backends.azure.prove.prover import AzureProver
from drillyard_backends.azure.prove.scene import LEAVE, SPEAK
from drillyard_backends.gcp.prove import machines as gcp_machines
from drillyard_backends.gcp.prove.prover import GcpProver
from drillyard_backends.prove import record
from drillyard_backends.prove.cost import price_of
from drillyard_backends.prove.probes import (
    Claim,
    Observation,
    Probe,
    Scene,
    Untestable,
    Verdict,
    of_worker,
)
from drillyard_emulators.rehearsal import physics_of
from tests.helpers.command_line import called

PACKAGES = Path(__file__).parents[3] / "backends" / "drillyard_backends"
CLAIM = Claim("X1", "it is so", "it is bad")


@pytest.mark.parametrize("prover", [GcpProver, AzureProver])
def test_every_claim_is_a_row_of_the_list_of_assumptions(prover):
    text = (PACKAGES / prover.kind / "ASSUMPTIONS.md").read_text("utf-8")
    facts = re.findall(r"^\| ([AG]\d+) (?:\|.*){5,}\|$", text, re.MULTILINE)
    rows = set(facts)
    assert len(facts) == len(rows), "one id names two facts"
    claims = {claim for probe in prover.probes for claim in probe.claims}
    assert claims
    assert {claim.id for claim in claims} <= rows
    assert len({claim.id for claim in claims}) == len(claims), "one claim in two wordings"
    assert all(claim.fact and claim.otherwise for claim in claims)
    # The list says which of its rows are tested in the user's account.
    told = re.search(
        r"^\*\*Tested in the user's account\.\*\*.*hold: ([^.]+)\.", text, re.MULTILINE
    )
    assert told and set(told[1].split(", ")) == {claim.id for claim in claims}


@pytest.mark.parametrize("prover", [GcpProver, AzureProver])
def test_what_is_read_comes_before_what_is_created_and_paid(prover):
    probes: tuple[Probe[Any], ...] = prover.probes
    kinds = [0 if probe.reads else 2 if probe.paid else 1 for probe in probes]
    assert kinds == sorted(kinds)
    assert len({probe.name for probe in probes}) == len(probes)
    assert all(probe.seconds > 0 or probe.name == "states" for probe in probes)


def test_neither_the_shell_nor_azure_changes_the_commands_of_jobs():
    for command in (SPEAK, LEAVE):
        inner = command.removeprefix('python -c "').removesuffix('"')
        assert not set(inner) & set('$\\`"{}\n'), command
        compile(inner, "job", "exec")


def test_states_of_jobs_that_drillyard_decides_by_are_known():
    from drillyard_backends.azure.jobs import ENDING, OVER

    assert OVER | ENDING | {"NotResponding", "Preparing", "Queued"} <= azure_jobs.STATES
    assert {probe.name for probe in azure_reading.READING}


def test_a_record_names_no_account():
    private = {
        "my-project": "PROJECT",
        "My-Bucket": "BUCKET",
        "1b2c3d4e-0000-4000-8000-123456789abc": "SUBSCRIPTION",
        "ann": "USER",
        "x": "SHORT",
    }
    evidence = (
        "no permission: ann@example.org on projects/my-project/zones/z, MY-BUCKET, "
        "projects/123456789012, /subscriptions/1b2c3d4e-0000-4000-8000-123456789abc/x, "
        "9f8e7d6c-0000-4000-8000-123456789abc, https://storage.googleapis.com/My-Bucket?sig=a, "
        "dy-0123456789, ya29.abcdefghijklmnopqrstuvwxyz, Bearer abcdefghijklmnop"
    )
    made = record.record_of("gcp", "2026-11-23", [CLAIM.fails(evidence, lag_s=2.5)], private)
    text = made.model_dump_json()
    for word in ("my-project", "bucket", "1b2c3d4e", "9f8e7d6c", "example", "123456789"):
        assert word not in text.lower().replace('"bucket', "").replace("bucket,", ""), word
    for word in ("ya29", "abcdefghijklmnop", "sig=", "0123456789"):
        assert word not in text
    assert made.physics == {"lag_s": 2.5}
    assert made.seen[0].verdict == "does not hold"


WHEELS = WheelSet(
    python="3.11", machine="x86_64", files=[WheelFile(name="a.whl", sha256="a", size=2_000_000)]
)
OLD = f"{NOT_USABLE}: NVIDIA driver 535.288.01"


@pytest.mark.parametrize(
    ("worker", "verdicts"),
    [
        ({"state": "ready", "ready_at": 1.0}, ("holds", "holds", "holds")),
        ({"state": "leaving", "ready_at": 1.0}, ("holds", "holds", "holds")),
        ({"state": "failed", "message": OLD}, (None, None, "does not hold")),
        ({"state": "failed", "message": "for Python 3.12"}, (None, "does not hold", None)),
        ({"state": "starting", "message": "tried again"}, (None, "does not hold", None)),
        ({"state": "starting"}, (None, "does not hold", None)),
        ({}, ("does not hold", None, None)),
    ],
)
def test_what_a_worker_says_of_its_machine_decides(tmp_path, worker, verdicts):
    order = Order(
        lease_id="dy-1", experiment="e", store_url="", gpus=1, requirements=["a==1"], workers=1
    )
    mailbox = Mailbox(open_store(str(tmp_path)), "e")
    mailbox.write("leases/dy-1/wheels.json", WHEELS)
    other = WorkerRecord(worker="w0", lease="dy-0", state="ready", ready_at=1.0, written_at=1.0)
    mailbox.write("workers/w0.json", other)
    has = {"driver": "580.126.09", "torch": "2.13.0 for CUDA 12.6"}
    if worker:
        record = WorkerRecord(worker="w1", lease="dy-1", written_at=1.0, software=has, **worker)
        mailbox.write("workers/w1.json", record)
    scene = Scene(None, order, mailbox, SYSTEM, pace=0.0)
    claims = tuple(Claim(f"X{n}", "it is so", "it is bad") for n in (1, 2, 3))
    seen, ended = {}, not worker
    with contextlib.suppress(Untestable):
        for each in of_worker(scene, claims, 1.0, lambda: ended, lambda: "its last words"):
            seen[each.claim.id] = each
    assert tuple(seen[c.id].verdict.value if c.id in seen else None for c in claims) == verdicts
    if "holds" in verdicts:
        assert seen["X2"].evidence == "1 wheels of the store, 2.0 MB"
        assert seen["X3"].evidence == "driver 580.126.09, torch 2.13.0 for CUDA 12.6"
        assert scene.software == has
    elif "message" not in worker:
        (only,) = seen.values()
        assert "its last words" in only.evidence


def test_no_machine_is_not_a_machine_that_began():
    """It said that 0 machines had begun, and that five assumptions hold."""
    scene = SimpleNamespace(idle="", rows=list)
    with pytest.raises(Untestable, match="no machine is listed"):
        list(gcp_machines.boot(scene))


GOOGLE = {
    "project": "my-project-1",
    "bucket": "my-bucket",
    "service_account": "a@my-project-1.iam.gserviceaccount.com",
    "image": "projects/p/global/images/i",
}
AZURE = {
    "subscription_id": "00000000-0000-0000-0000-000000000000",
    "resource_group": "group",
    "workspace": "workspace",
    "image": "i/i:1",
    "account": "account",
    "container": "container",
}
T4, L4 = {"vm_size": "Standard_NC4as_T4_v3"}, {"machine_types": ["g2-standard-4"], "disk_gb": 30}


@pytest.mark.parametrize(
    ("page", "prover", "settings", "gpus"),
    [
        ("google-cloud-first-hour.md", GcpProver, GOOGLE, 0),
        ("google-cloud-first-hour.md", GcpProver, GOOGLE | L4, 1),
        ("azure-first-hour.md", AzureProver, AZURE, 0),
        ("azure-first-hour.md", AzureProver, AZURE | T4, 1),
    ],
)
def test_the_pages_say_what_the_proof_of_an_experiment_costs_at_most(page, prover, settings, gpus):
    text = (PACKAGES.parents[1] / "docs" / "how-to" / page).read_text("utf-8")
    stated = [float(amount) for amount in re.findall(r"([\d.]+) USD \(`prove`\)", text)]
    order = Order(lease_id="dy-1", experiment="e", store_url="", gpus=gpus)
    made = prover(given=settings, uses=order)
    price = price_of(made.backend, made.order("dy-1", "", 0.0), made.probes, 1.0)
    assert stated[gpus] - 0.02 <= price.total <= stated[gpus]
    assert made.order("dy-1", "", 0.0).workers == 1


FILE = """schema: 1
name: small
workload: script
script: {run: [x.py], results: {stdout: '^(a)=(.)$'}}
"""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["FILE"], "its backend is local"),
        (["FILE", "--on", "local"], "its backend is local"),
        (["FILE", "--set", 'backend=["gcp","azure"]'], "its backend is gcp, azure"),
        (["FILE", "--on", "gcp", "--block", "b"], "--on gcp/b"),
        (["FILE", "--on", "gcp"], "required settings are missing"),
        (["no.yaml"], "no.yaml: no such file"),
        (["gcp", "--set", "a=1"], "needs an experiment's file"),
        (["gcp", "--steps", "5"], "no such option"),
    ],
)
def test_what_cannot_be_proved_is_refused_before_a_request(words, says, tmp_path):
    (tmp_path / "x.py").write_text("")
    (tmp_path / "FILE").write_text(FILE)
    environ = {**os.environ, "DRILLYARD_CONFIG_DIR": str(tmp_path)}
    answer = called(["prove", *words], tmp_path, environ)
    said = answer.stdout + answer.stderr
    assert answer.returncode == 2, said
    assert says in said and "Traceback" not in said


def test_a_record_is_read_back(tmp_path):
    made = record.record_of("azure", "2026-11-23", [CLAIM.holds("yes", page=3)], {})
    path = tmp_path / "folder" / "record.json"
    record.write(made, path)
    assert record.read(path) == made
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["record.json"]


def test_a_rehearsal_takes_the_record_of_its_own_cloud_alone(tmp_path):
    path = tmp_path / "record.json"
    record.write(record.record_of("gcp", "2026-11-23", [CLAIM.holds("a", boot_s=9.0)], {}), path)
    assert physics_of(path, "gcp") == {"boot_s": 9.0}
    with pytest.raises(ConfigError, match="record of gcp, and azure"):
        physics_of(path, "azure")


def test_the_states_of_machines_are_those_of_googles_own_document():
    documents = importlib.resources.files("googleapiclient.discovery_cache.documents")
    schemas = json.loads((documents / "compute.v1.json").read_text("utf-8"))["schemas"]
    fields = schemas["ManagedInstance"]["properties"]
    assert gcp_machines.ACTIONS - {""} == set(fields["currentAction"]["enum"])
    assert gcp_machines.STATUSES - {""} == set(fields["instanceStatus"]["enum"])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": 1}'])
def test_what_is_no_record_is_refused(tmp_path, text):
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(UserError, match="is not a record"):
        record.read(path)


def test_a_verdict_carries_what_an_emulator_needs():
    physics: JsonObject = {"listing_lag_s": 4.0}
    assert CLAIM.judged(True, "a", listing_lag_s=4.0) == Observation(
        CLAIM, Verdict.HOLDS, "a", physics
    )
    assert CLAIM.judged(False, "a").verdict is Verdict.FAILS
    assert CLAIM.untested("b").physics == {}
