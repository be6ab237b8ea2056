"""What several tests of simulators need."""

from __future__ import annotations

import sys
import tempfile
from typing import Any

import pytest

from drillyard.simulators.fmu import state_test
from tests.fmus import write_fmu


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    return tmp_path_factory.mktemp("fmus")


@pytest.fixture
def fmu(libraries, monkeypatch, tmp_path):
    """Writes an FMU beside an experiment whose folder is on the path."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(libraries)])
    monkeypatch.setattr(state_test, "_KNOWN", {})
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def write(*macros: str, name: str = "tank.fmu", **how: Any) -> str:
        return write_fmu(libraries / name, *macros, **how).name

    yield write
    assert not list(tmp_path.glob("fmu-*")), "the files of an FMU were left behind"
