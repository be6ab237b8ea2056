"""``rehearse --machines bare``: a user's experiment on machines with nothing of this computer."""

import os

import pytest

from drillyard.errors import UserError
from drillyard_emulators.azure.rehearsal import AzureRehearsal
from drillyard_emulators.gcp import rehearsal
from tests.conftest import BIN, ROOT
from tests.helpers import process_rules
from tests.helpers.processes import run_process
from tests.machines.conftest import CACHE


@pytest.mark.heavy
@pytest.mark.slow
def test_a_rehearsal_on_bare_machines(debian, tmp_path):
    command = [str(BIN / "drillyard"), "rehearse", str(ROOT / "experiments" / "mock.yaml")]
    command += ["--on", "gcp", "--machines", "bare", "--set", "seeds=[1]"]
    cache = {"XDG_CACHE_HOME": str(CACHE.parents[1]), process_rules.EXEMPT: "pip asks an index"}
    done = run_process(command, cwd=tmp_path, more=cache)
    assert done.returncode == 0, done.stderr
    assert "machines: 1 made, 1 deleted; left: 0" in done.stdout


def test_a_computer_that_cannot_run_them_says_why(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UserError, match="cannot run bare machines: they need root"):
        rehearsal.GcpRehearsal("gcp", {}, [], tmp_path, bare=True)
    with pytest.raises(UserError, match="is for Google Cloud"):
        AzureRehearsal("azure", {}, [], tmp_path, bare=True)
