"""What rented machines must install is found from the imports, and refused before renting."""

from __future__ import annotations

from pathlib import Path

import pytest

import tests.helpers.paid_backend  # noqa: F401  registers `paid`
from drillyard.checks.packages import missing_packages
from drillyard.findings import Severity
from drillyard.spec.load import load

FILE = """
name: needs
simulator: {{id: "{id}"}}
learner: {{algorithm: ppo}}
train: {{steps: 2048}}
backend: {backend}
budget: {{max_hours: 1, max_cost: 10}}
{more}
"""


def missing(
    folder: Path, source: str, more: str = "", id_: str = "world:W", backend: str = "paid"
) -> list[tuple[str, str, str | None]]:
    (folder / "world.py").write_text(source)
    (folder / "exp.yaml").write_text(FILE.format(id=id_, more=more, backend=backend))
    found = missing_packages(load(folder / "exp.yaml"))
    return [(f.severity.value, f.message, f.fix) for f in found]


def test_a_package_that_no_requirement_names_is_refused_with_the_line(tmp_path):
    ((severity, said, fix),) = missing(tmp_path, "import hypothesis\nclass W: ...")
    assert severity == Severity.ERROR.value
    assert "imports hypothesis" in said
    assert fix is not None and fix.startswith("write requirements: [hypothesis==")


@pytest.mark.parametrize(
    "source",
    [
        "import numpy, torch, json\nfrom gymnasium import spaces",
        "try:\n    import hypothesis\nexcept ImportError:\n    hypothesis = None",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import hypothesis",
        "import not_installed_anywhere",
    ],
)
def test_what_machines_have_or_nothing_can_be_said_about_is_left_alone(tmp_path, source):
    assert missing(tmp_path, source) == []


def test_imports_are_followed_through_the_users_own_modules(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "__init__.py").write_text("from . import deep\n")
    (tmp_path / "own" / "deep.py").write_text("def f():\n    import hypothesis.strategies\n")
    ((_, said, _),) = missing(tmp_path, "from own import deep\n")
    assert "imports hypothesis," in said


def test_a_requirement_brings_what_it_needs_itself(tmp_path):
    source = "import hypothesis, sortedcontainers"
    assert missing(tmp_path, source, "requirements: [hypothesis==6.0]") == []


def test_a_requirement_that_is_not_installed_here_may_bring_it(tmp_path):
    ((severity, _, _),) = missing(
        tmp_path, "import hypothesis", "requirements: [not-there-yet==1.0]"
    )
    assert severity == Severity.WARNING.value


def test_the_package_of_a_gymnasium_id_counts(tmp_path):
    ((_, said, _),) = missing(tmp_path, "", id_="hypothesis:Some-Id-v0")
    assert "imports hypothesis," in said


def test_what_steps_an_fmu_counts(tmp_path):
    ((_, _, fix),) = missing(tmp_path, "", id_="plant.fmu")
    assert fix is not None and fix.startswith("write requirements: [fmpy==")


@pytest.mark.parametrize(
    ("backend", "severity"),
    [("gcp", "warning"), ("[local, gcp]", "warning"), ("[gcp, paid]", "error")],
)
def test_an_image_excuses_a_package_only_if_every_rented_place_has_one(
    tmp_path, backend, severity
):
    more = "backends: {gcp: {image_family: mine}}"
    ((found, _, _),) = missing(tmp_path, "import hypothesis", more, backend=backend)
    assert found == severity


def test_what_is_installed_meanwhile_is_seen(tmp_path, monkeypatch):
    """The lists of installed packages are read again when a folder of packages has changed."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    assert missing(tmp_path, "import brandnew") == []
    record = site / "brand_new-2.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: brand-new\nVersion: 2.0\n")
    (record / "top_level.txt").write_text("brandnew\n")
    ((_, said, fix),) = missing(tmp_path, "import brandnew")
    assert "imports brandnew," in said and "brand-new==2.0" in str(fix)
