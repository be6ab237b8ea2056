"""``drillyard prove FILE``: what one experiment uses is tried on one machine, and lies are told.

The clouds are emulated; each test lets one of them lie about one thing.
"""

import json
import shutil
import sys
from pathlib import Path

import pytest

from drillyard.backend import Order
from drillyard.runs.wheels import THIS_PYTHON
from drillyard_backends.prove import record
from drillyard_backends.prove.probes import Verdict
from tests.helpers import rules
from tests.helpers.proofs import verdicts
from tests.helpers.wheel_index import needed, wheel

pytestmark = pytest.mark.heavy
HOLDS, FAILS, UNTESTED = Verdict.HOLDS, Verdict.FAILS, Verdict.UNTESTED
CLAIMS = {"gcp": ("G191", "G192", "G193"), "azure": ("A194", "A195", "A196")}
QUICK = {"DRILLYARD_LAST_WORDS_S": "1", "DRILLYARD_RETRY_S": "0"}
"""A machine that gives up waits a minute for readers of its serial port."""
CONTAINER = f"ghcr.io/lab/drillyard@sha256:{'a' * 64}"
REFUSED = (
    'docker: Error response from daemon: Head "https://europe-docker.pkg.dev/v2/p/ml/app/manifests'
    '/4.19.5": denied: Permission "artifactregistry.repositories.downloadArtifacts" denied on '
    'resource "projects/p/locations/europe-west2/repositories/ml" (or it may not exist)'
)
"""github.com/terraform-google-modules/terraform-google-kubernetes-engine/issues/1779."""


def order(**more):
    return Order(lease_id="dy-0000000000", experiment="x", store_url="", **more)


def old_driver(folder):
    """A machine whose driver is 535 and whose torch is built for CUDA 13."""
    (folder / "bin").mkdir(parents=True)
    program = folder / "bin" / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 535.288.01\n")
    program.chmod(0o755)
    (folder / "torch").mkdir()
    (folder / "torch" / "__init__.py").write_text("")
    (folder / "torch" / "version.py").write_text(
        "__version__ = '2.13.0+cu130'\ncuda: Optional[str] = '13.0'\n"
    )
    return folder


@pytest.fixture
def kind(request):
    return request.node.callspec.params["bench"]


@pytest.fixture
def lying(bench):
    """Sets variables of the machines' processes; afterwards they are as before."""
    names = set(QUICK)
    bench.cloud.ask("machine_env", **QUICK)

    def lie(**variables):
        names.update(variables)
        bench.cloud.ask("machine_env", **variables)

    yield lie
    bench.cloud.ask("machine_env", **{**dict.fromkeys(names), "PYTHONPATH": rules.path()})


def told(bench, kind, claim, expected):
    """What was seen about a claim; nothing is left."""
    seen = verdicts(bench.report, CLAIMS[kind][claim])[0]
    assert seen.verdict is expected, bench.report.observations
    bench.nothing_left()
    return seen.evidence


def proved(bench, pace=0.05, **more):
    prover = bench.prover(pace, uses=order(**more.pop("order", {})), **more)
    prover.probes = tuple(p for p in prover.probes if p.name != "a machine ends itself")
    bench.report = bench.proof(prover)
    return bench.report


def test_what_an_experiment_uses_is_tried_and_recorded(bench, kind, lying, tmp_path, monkeypatch):
    needed(tmp_path, tmp_path / "index", monkeypatch)
    report = proved(bench, python=THIS_PYTHON, order={"requirements": ["dy_root==2.0"]})
    assert THIS_PYTHON in told(bench, kind, 0, HOLDS)
    assert told(bench, kind, 1, HOLDS).startswith("2 wheels of the store")
    assert "asks for no GPU" in told(bench, kind, 2, UNTESTED)
    path = tmp_path / "record.json"
    seen = report.observations
    record.write(record.record_of(kind, "2026-11-26", seen, {}, report.software), path)
    software = record.read(path).software
    assert software["python"].startswith(THIS_PYTHON) and software["torch"]
    older = json.loads(path.read_text())
    del older["software"]
    path.write_text(json.dumps(older))
    assert record.read(path).software == {}


def test_wheels_for_another_python_are_reported(bench, kind, lying, tmp_path, monkeypatch):
    needed(tmp_path, tmp_path / "index", monkeypatch)
    other = "3.12" if THIS_PYTHON != "3.12" else "3.11"
    proved(bench, python=other, order={"requirements": ["dy_leaf==1.5"]})
    text = told(bench, kind, 1, FAILS)
    assert f"are for Python {other}" in text and f"this machine has Python {THIS_PYTHON}" in text


def test_requirements_that_contradict_each_other_are_refused_before_renting(
    bench, kind, tmp_path, monkeypatch
):
    needed(tmp_path, tmp_path / "index", monkeypatch)
    wheel(tmp_path / "index", "dy_leaf", "3.0")
    order = {"requirements": ["dy_root==2.0", "dy_leaf==3.0"]}
    report = proved(bench, python=THIS_PYTHON, order=order)
    assert not report.created
    (finding,) = [f for f in report.findings if f.severity.value == "error"]
    assert finding.subject == "requirements" and "dy_leaf" in finding.message
    assert finding.fix
    bench.nothing_left()


def test_an_old_driver_is_reported_with_both_numbers(bench, kind, lying, tmp_path):
    folder = old_driver(tmp_path / "gpu")
    path = f"{folder / 'bin'}:{Path(sys.prefix) / 'bin'}:/usr/local/bin:/usr/bin:/bin"
    lying(PATH=path, PYTHONPATH=rules.path(folder))
    gpu = (
        {"machine_types": ["g2-standard-4"]}
        if kind == "gcp"
        else {"vm_size": "Standard_NC4as_T4_v3"}
    )
    proved(bench, order={"gpus": 1}, **gpu)
    text = told(bench, kind, 2, FAILS)
    assert "NVIDIA driver 535.288.01" in text and "needs driver 580" in text


def test_an_image_without_python_is_reported(bench, kind, lying, tmp_path):
    (tmp_path / "bin").mkdir()
    for name in ("bash", "sh", "sleep", "curl", "sha256sum", "sed", "mkdir", "rm", "uname", "cat"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))
    lying(PATH=str(tmp_path / "bin"), DRILLYARD_PREFIX=str(tmp_path / "none"))
    proved(bench)
    claim = "G145" if kind == "gcp" else "A93"
    text = verdicts(bench.report, claim)[0].evidence
    assert ("/none/bin/python on this image" if kind == "gcp" else "python: ") in text
    bench.nothing_left()


# -- Google Cloud's own ---------------------------------------------------------------------------


@pytest.mark.slow
def test_a_machine_without_a_way_to_the_store_says_so(gcp_bench):
    bench = gcp_bench
    lie = {**QUICK, "HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    bench.cloud.ask("machine_env", **lie)
    try:
        proved(bench)
    finally:
        bench.cloud.ask("machine_env", **dict.fromkeys(lie))
    seen = verdicts(bench.report, "G101")[0]
    assert seen.verdict is FAILS, bench.report.findings
    assert "storage.googleapis.com cannot be reached" in seen.evidence
    bench.nothing_left()


def test_a_driver_that_appears_late_is_waited_for(gcp_bench, tmp_path):
    """Images that install it take ten minutes and more, and a proof waited for less."""
    bench, asked = gcp_bench, tmp_path / "asked"
    card = tmp_path / "pci" / "0000:00:04.0"
    card.mkdir(parents=True)
    (card / "vendor").write_text("0x10de\n")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "nvidia-smi"
    # The script asks every five seconds: twenty pass, and a boot may take eighteen here.
    program.write_text(
        f"#!/bin/sh\necho >>{asked}; [ $(wc -l <{asked}) -gt 4 ] && echo 580.126.09\n"
    )
    program.chmod(0o755)
    lie = {"DRILLYARD_PCI": str(tmp_path / "pci"), "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    bench.cloud.ask("machine_env", **QUICK, **lie)
    try:
        proved(bench, pace=0.03, machine_types=["g2-standard-4"], order={"gpus": 1})
    finally:
        bench.cloud.ask("machine_env", **dict.fromkeys([*QUICK, *lie]))
    assert verdicts(bench.report, "G35")[0].verdict is HOLDS
    bench.nothing_left()


def test_a_container_whose_pull_is_refused_is_reported(gcp_bench, tmp_path):
    bench = gcp_bench
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin" / "docker"
    docker.write_text(f"#!/bin/sh\necho '{REFUSED}' >&2\nexit 125\n")
    docker.chmod(0o755)
    lie = {**QUICK, "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    bench.cloud.ask("machine_env", **lie)
    try:
        proved(bench, image=None, container=CONTAINER)
    finally:
        bench.cloud.ask("machine_env", **dict.fromkeys(lie))
    seen = verdicts(bench.report, "G145")[0]
    assert seen.verdict is FAILS, bench.report.findings
    assert "downloadArtifacts" in seen.evidence
    assert "roles/artifactregistry.reader" in seen.evidence
    bench.nothing_left()
