"""What needs packages that are not there names them and how to get them: never a traceback."""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path

import pytest

from drillyard.cli.main import main
from drillyard.errors import ExitCode
from drillyard.system import optional_packages

WITHOUT = {
    "backend ssh": (["plan", "a.yaml", "--on", "ssh"], "asyncssh", "ssh"),
    "backend gcp": (["doctor", "--on", "gcp"], "google-cloud-compute", "gcp"),
    # The backend's own packages are asked for first.
    "rehearsal": (["rehearse", "a.yaml", "--on", "gcp"], "google-cloud-compute", "gcp"),
    "store gs": (["status", "--store", "gs://bucket/runs"], "google-cloud-storage", "gcs"),
    "store sftp": (["results", "--store", "sftp://host/runs"], "asyncssh", "ssh"),
    "endpoint": (["undeploy-policy", "x", "--on", "azure"], "azure-ai-ml", "azure"),
}


@pytest.fixture
def without(monkeypatch, tmp_path):
    """An environment in which no package of an extra is installed."""
    real = metadata.distribution

    def distribution(name: str) -> metadata.Distribution:
        if name == "drillyard":
            return real(name)
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", distribution)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    Path("a.yaml").write_text(
        "schema: 1\nname: a\nsimulator: {id: cstr}\nlearner: {algorithm: ppo}\n"
        "train: {steps: 10}\nbackends: {ssh: {hosts: [h]}}\n"
    )


@pytest.mark.parametrize("case", WITHOUT)
@pytest.mark.usefixtures("without")
def test_missing_packages_are_named_with_the_line_that_installs_them(case, capsys):
    words, package, extra = WITHOUT[case]
    code = main(words)
    said = "".join(capsys.readouterr())
    assert package in said and f"pip install 'drillyard[{extra}]'" in said
    assert "Traceback" not in said
    assert code == (4 if words[0] == "doctor" else ExitCode.USER_INPUT)


LISTED = (
    "name: a\nworkload: mock\nbackend:\n  - {0}\n  - {1}\nbudget: {{max_hours: 1, max_cost: 1}}\n"
    "backends: {{ssh: {{hosts: [h]}}, gcp: {{project: p, bucket: b, service_account: s@x}}}}\n"
)


@pytest.mark.parametrize("backend", ["ssh", "gcp"])
@pytest.mark.usefixtures("without")
def test_a_place_whose_packages_are_missing_is_left_out_if_another_one_works(backend, capsys):
    Path("a.yaml").write_text(LISTED.format(backend, "local"))
    assert main(["plan", "a.yaml", "--json", "--store", "runs"]) == ExitCode.DONE
    plan = json.loads(capsys.readouterr().out)
    local, other = plan["places"]
    assert (local["backend"], local["used"]) == ("local", True)
    assert (other["backend"], other["used"], other["per_hour"]) == (backend, False, None)
    assert "not installed" in other["why_not"]
    (finding,) = (f for f in plan["findings"] if f["subject"] == f"backend {backend}")
    assert finding["severity"] == "warning" and f"drillyard[{backend}]" in finding["fix"]
    assert main(["plan", "a.yaml", "--store", "runs"]) == ExitCode.DONE  # the table, too
    assert "not known" in capsys.readouterr().out


@pytest.mark.usefixtures("without")
def test_a_list_of_places_of_which_none_has_its_packages_is_refused(capsys):
    Path("a.yaml").write_text(LISTED.format("ssh", "gcp"))
    assert main(["plan", "a.yaml", "--store", "runs"]) == ExitCode.USER_INPUT
    assert "pip install 'drillyard[ssh]'" in "".join(capsys.readouterr())


@pytest.mark.usefixtures("without")
def test_the_place_that_has_the_mailbox_is_not_left_out_silently(capsys):
    """Without its packages the mailbox would be another one, and the experiment begin again."""
    Path("a.yaml").write_text(LISTED.format("local", "gcp"))
    assert main(["plan", "a.yaml"]) == ExitCode.USER_INPUT
    said = "".join(capsys.readouterr())
    assert "a.yaml:7: backends.gcp: " in said and "google-cloud-compute" in said
    assert "pip install 'drillyard[gcp]'" in said and "--store" in said


@pytest.mark.parametrize("store", [[], ["--store", "runs"]])
def test_missing_settings_are_refused_at_the_line_that_names_the_backend(
    store, capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRILLYARD_CONFIG_DIR", str(tmp_path))
    text = LISTED.format("local", "gcp").partition("backends:")[0]
    Path("a.yaml").write_text(text)
    assert main(["plan", "a.yaml", *store]) == ExitCode.USER_INPUT
    assert "a.yaml:5: " in "".join(capsys.readouterr())


@pytest.mark.heavy
@pytest.mark.usefixtures("without")
def test_the_doctor_names_engines_that_are_not_installed_and_warns_of_none(capsys):
    main(["doctor"])
    said = "".join(capsys.readouterr())
    for engine, package in (("jax", "jax"), ("sbx", "sbx-rl")):
        (line,) = (each for each in said.splitlines() if f"engine {engine} " in each)
        assert package in line and line.startswith("ok")
        assert f"pip install 'drillyard[{engine}]'" in line


@pytest.mark.usefixtures("without")
def test_what_can_be_listed_without_its_packages_is_listed(capsys):
    assert main(["reap", "--dry-run", "--on", "dask"]) == ExitCode.DONE
    assert "cannot be listed" not in "".join(capsys.readouterr())


def test_an_extra_that_is_made_of_others_needs_what_they_need(monkeypatch):
    lines = ["drillyard[b]; extra == 'a'", "no-such-package>=1; extra == 'b'", "numpy>=1"]
    monkeypatch.setattr(metadata, "requires", lambda name: lines)
    assert optional_packages.missing("a") == ["no-such-package"]
    assert optional_packages.missing("c") == []


def test_the_line_names_the_interpreter_where_pip_is_another_environments(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert optional_packages.install("ssh") == f"{sys.executable} -m pip install 'drillyard[ssh]'"
    pip = Path(tmp_path, "pip")
    pip.write_text("#!/bin/sh\n")
    pip.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert optional_packages.install("ssh") == "pip install 'drillyard[ssh]'"


def test_a_host_is_named_once_by_the_doctor(monkeypatch):
    """The subject of a backend's finding may already begin with the name of the backend."""
    from drillyard.checks import doctor
    from drillyard.findings import Finding, Severity

    class Lab:
        def check(self) -> list[Finding]:
            return [Finding(Severity.OK, subject, "") for subject in ("ssh me@lab:2222", "disk")]

    monkeypatch.setattr("drillyard.backend.open_backend", lambda _: Lab())
    assert [f.subject for f in doctor._backend("ssh")] == ["ssh me@lab:2222", "ssh disk"]
