"""What a mirroring process receives from its parent's environment, and what it imports."""

import json
import sys

import pytest

from drillyard.mailbox import Mailbox
from drillyard.tracking.__main__ import registers
from drillyard.tracking.environment import child_environment, without_tables
from tests.helpers.fixtures_store import write_experiment


def test_a_mirror_joins_no_run_and_no_service_of_its_parent():
    parent = {
        "PATH": "/bin",
        "WANDB_API_KEY": "key",
        "WANDB_RUN_ID": "mine",
        "MLFLOW_RUN_ID": "mine",
        # W&B's client sets it in a process that has begun a run, and looks there first.
        "WANDB_SERVICE": "3-4711-unix-s-service",
    }
    child = child_environment(parent)
    assert not {"WANDB_RUN_ID", "MLFLOW_RUN_ID", "WANDB_SERVICE"} & set(child)
    assert (child["PATH"], child["WANDB_API_KEY"]) == ("/bin", "key")


@pytest.mark.parametrize("uri", ["sqlite:////tmp/db", "https://mlflow.example.org"])
def test_a_mirror_imports_no_tables(uri, monkeypatch):
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    sys.modules.pop("pyarrow", None)
    sys.modules["pandas"] = json
    without_tables("azureml://eu.api.azureml.ms/mlflow")
    assert "pyarrow" not in sys.modules
    without_tables(uri)
    assert sys.modules["pyarrow"] is None and sys.modules["pandas"] is json


def test_one_that_registers_a_policy_imports_them(tmp_path):
    box = write_experiment(tmp_path, "plain", seeds=(1,))
    assert not registers(box)
    assert registers(write_experiment(tmp_path, seeds=(1,), tracking={"register_as": "reactor"}))
    assert registers(Mailbox(box.store, "not-there"))  # it may
