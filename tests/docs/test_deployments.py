"""``deployments/`` is data that Prefect reads: it must name flows and parameters that exist."""

from __future__ import annotations

import inspect
from pathlib import Path

from ruamel.yaml import YAML

from drillyard.registry import load_object

ROOT = Path(__file__).parents[2]


def test_every_deployment_names_a_flow_its_parameters_and_a_file_that_is_there() -> None:
    found = YAML(typ="safe").load((ROOT / "deployments" / "prefect.yaml").read_text())
    assert found["deployments"]
    for deployment in found["deployments"]:
        flow = load_object(deployment["entrypoint"])
        parameters = deployment.get("parameters", {})
        inspect.signature(flow.fn).bind(**parameters)
        assert "file" not in parameters or (ROOT / parameters["file"]).exists()
