"""The audit of locked packages with the real tool, on a service that is played; and the SBOM."""

from __future__ import annotations

import json
import re
import sys
from contextlib import AbstractContextManager
from importlib import metadata
from pathlib import Path

import pytest

from tests.helpers.answering import Request, answering
from tests.helpers.process_rules import EXEMPT
from tests.helpers.processes import run_process
from tests.supply_chain import audit

ROOT = Path(__file__).parents[2]
TOOLS = Path(sys.prefix) / "tools" / "bin"
tools = pytest.mark.skipif(
    not (TOOLS / "pip-audit").exists(), reason="`make audit` has not installed its tools here"
)
LOCKED = dict(line.split("==") for line in audit.LOCK.read_text().splitlines() if "==" in line)


VULNERABILITY = {
    "id": "GHSA-0000-0000-0000",
    "details": "It runs what it reads.",
    "aliases": ["CVE-2099-0001"],
    "affected": [
        {
            "package": {"name": "ruamel-yaml", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "999.1"}]}],
        }
    ],
}


def service(*bad: str) -> AbstractContextManager[str]:
    """Answers as OSV does: https://google.github.io/osv.dev/post-v1-query/."""

    def answer(request: Request) -> tuple[int, bytes]:
        known = json.loads(request.body)["package"]["name"] in bad
        return 200, json.dumps({"vulns": [VULNERABILITY]} if known else {}).encode()

    return answering(answer, **{"content-type": "application/json"})


@pytest.fixture
def lock(monkeypatch, tmp_path):
    """A few packages: the tool asks for each by itself."""
    file = tmp_path / "requirements.lock"
    file.write_text("".join(f"{name}=={LOCKED[name]}\n" for name in ("numpy", "ruamel.yaml")))
    monkeypatch.setattr(audit, "LOCK", file)


def audited(capsys: pytest.CaptureFixture[str], tmp_path: Path, url: str) -> tuple[int, str]:
    more = ["--cache-dir", str(tmp_path / "cache"), "-s", "osv", "--osv-url", f"{url}/v1/query"]
    code = audit.main([str(TOOLS / "pip-audit"), *more])
    return code, capsys.readouterr().out


@tools
@pytest.mark.heavy
@pytest.mark.usefixtures("lock")
def test_a_known_vulnerability_fails_the_build(capsys, tmp_path):
    with service() as url:
        code, said = audited(capsys, tmp_path, url)
    assert code == 0 and "0 of 2 packages" in said
    with service("ruamel-yaml") as url:
        code, said = audited(capsys, tmp_path / "again", url)
    assert code == 1, said
    assert f"{LOCKED['ruamel.yaml']}: CVE-2099-0001, fixed in 999.1" in said
    assert "1 of 2 packages" in said


@tools
@pytest.mark.heavy
@pytest.mark.usefixtures("lock")
def test_a_service_that_is_away_is_said_and_fails_nothing(capsys, tmp_path):
    with service() as url:
        pass
    code, said = audited(capsys, tmp_path, url)
    assert code == 0 and "NOT DONE, the service does not answer" in said


@pytest.mark.parametrize("known", [False, True])
def test_what_was_not_audited_is_not_called_safe(known, capsys, tmp_path):
    """pip-audit's own words for a mirror without vulnerabilities: none found, and exit code 0."""
    packages = [{"name": "a", "skip_reason": "Dependency not found on PyPI"}]
    packages += [{"name": "b", "version": "1", "vulns": []}] * known  # type: ignore[list-item]
    tool = tmp_path / "pip-audit"
    tool.write_text(f"#!/bin/sh\necho '{json.dumps({'dependencies': packages})}'\n")
    tool.chmod(0o755)
    assert audit.main([str(tool)]) == 0
    said = capsys.readouterr().out
    assert ("NOT DONE" in said) is not known
    assert ("unknown to the service: a" in said and "0 of 1" in said) is known


def test_the_build_and_a_schedule_run_the_audit():
    assert "make audit" in (ROOT / ".ci/run").read_text()
    planned = (ROOT / ".github/workflows/audit.yml").read_text()
    assert "schedule:" in planned and "make audit sbom" in planned


@tools
@pytest.mark.heavy
def test_the_bill_of_materials_lists_what_is_installed(tmp_path):
    """CycloneDX with versions, licences and addresses of packages; the tool validates it."""
    out = tmp_path / "sbom.json"
    make = ["make", "-s", "sbom", f"SBOM={out}", f"VENV={sys.prefix}"]
    made = run_process(
        [*make, *(f"-o{sys.prefix}/{one}" for one in (".dev", ".tools"))],
        cwd=ROOT,
        more={EXEMPT: "the tool lists packages in a process of its own"},
    )
    assert made.returncode == 0, made.stdout + made.stderr
    document = json.loads(out.read_text())
    assert document["bomFormat"] == "CycloneDX" and document["specVersion"] == "1.6"
    listed = {_normal(one["name"]): one for one in document["components"]}
    for name in ("torch", "prefect", "mlflow", "numpy", "stable-baselines3"):
        assert listed[name]["version"] == metadata.version(name)
        assert listed[name]["purl"].startswith(f"pkg:pypi/{name}@")
        assert listed[name]["licenses"]
    installed = {_normal(str(one.metadata["Name"])) for one in metadata.distributions()}
    assert {_normal(name) for name in LOCKED} & installed <= set(listed)
    ours = document["metadata"]["component"]
    assert ours["name"] == "drillyard"
    needed = {one["ref"]: one.get("dependsOn", []) for one in document["dependencies"]}
    assert any("prefect" in one for one in needed[ours["bom-ref"]])


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
