"""The example of variable propagation that an older system documents, with its documented values.

Three groups of tunables, two constants from globals, two from the command line, two tunables set:
twelve parameters, the same in setup, run and teardown.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from drillyard.errors import ConfigError
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import STREAMS, Phase
from drillyard.runs.submit import open_workload, plain, post, run_record
from drillyard.spec.binding import bound, space
from drillyard.spec.load import Loaded, load
from drillyard.workloads.script import ScriptWorkload
from tests.helpers.records import context_of

TUNABLES = """\
{
  "dummy_params_group1": {"cost": 1, "params": {
    "dummy_param": {"type": "categorical", "values": ["dummy", "dummier"], "default": "dummy"}}},
  "dummy_params_group2": {"cost": 1, "params": {
    "dummy_param_int": {"type": "int", "range": [0, 100], "default": 0},
    "dummy_param_float": {"type": "float", "range": [0, 1], "default": 0.5}}},
  "dummy_params_group3": {"cost": 1, "params": {
    "dummy_param3": {"type": "float", "range": [0, 1], "special": [-1], "default": 0.0}}},
  "never_active": {"params": {"other": {"type": "int", "range": [0, 3], "default": 1}}},
}
"""
GLOBALS = """\
{
  "experiment_id": "test_experiment",
  "const_arg_from_globals_1": "Substituted from globals - 1",
  "const_arg_from_globals_2": "Substituted from globals - 2",
  "const_arg_from_cli_1": "Will be overridden from CLI",
  "tunable_params_map": {
    "tunables_ref1": ["dummy_params_group1", "dummy_params_group2"],
    "tunables_ref2": [],  // switches all of them off
  }
}
"""
FILE = """\
name: test_env1
workload: script
script:
  setup: ["cp parameters.json seen-setup.json"]
  run:
    - cp parameters.json seen-run.json
    - [python, -c, "import os; print('seen =', os.environ['dummy_param_int'])"]
  teardown:
    - cp parameters.json SHARE/seen-teardown.json
    - cp seen-setup.json seen-run.json SHARE
  results: {stdout: '^(\\w+) = (.*)$'}
parameters:
  include_tunables: [dummy-tunables.json5]
  tunable_params:
    - $tunables_ref1
    - $tunables_ref2        # nothing
    - dummy_params_group3   # directly
  const_args:
    const_arg_1: Default value of const_arg_1
    const_arg_from_globals_1: To be replaced from global config
    const_arg_from_cli_1: To be replaced from CLI
  required_args:
    - const_arg_from_globals_2
    - const_arg_from_cli_2
    - const_arg_from_globals_1
    - const_arg_from_cli_1
"""
CONSTANTS = {
    "const_arg_1": "Default value of const_arg_1",
    "const_arg_from_globals_1": "Substituted from globals - 1",
    "const_arg_from_globals_2": "Substituted from globals - 2",
    "const_arg_from_cli_1": "Substituted from CLI - 1",
    "const_arg_from_cli_2": "Substituted from CLI - 2",
}
COMBINED = {
    **CONSTANTS,
    "trial_id": 1,
    "trial_runner_id": 1,
    "experiment_id": "test_experiment",
    "dummy_param": "dummy",
    "dummy_param_int": 99,
    "dummy_param_float": 0.5,
    "dummy_param3": 0.999,
}
LINE = {
    "const_arg_from_cli_1": "Substituted from CLI - 1",
    "const_arg_from_cli_2": "Substituted from CLI - 2",
}


@pytest.fixture
def file(tmp_path):
    (tmp_path / "dummy-tunables.json5").write_text(TUNABLES)
    (tmp_path / "globals.jsonc").write_text(GLOBALS)
    path = tmp_path / "environment.yaml"
    path.write_text(FILE.replace("SHARE", str(tmp_path)))
    return path


def example(file: Path, **more: Any) -> Loaded:
    usual: dict[str, Any] = {"globals_": [str(file.parent / "globals.jsonc")], "values": LINE}
    return load(file, **{**usual, **more})


def test_constants_and_where_they_came_from(file):
    loaded = example(file)
    given = dict(loaded.spec.parameters.const_args)
    assert given.pop("experiment_id") == "test_experiment"
    assert given == CONSTANTS
    origin = {k: loaded.provenance[f"parameters.const_args.{k}"] for k in CONSTANTS}
    assert origin == {
        "const_arg_1": "environment.yaml:19",
        "const_arg_from_globals_1": "globals.jsonc:3",
        "const_arg_from_globals_2": "globals.jsonc:4",
        "const_arg_from_cli_1": "--const_arg_from_cli_1",
        "const_arg_from_cli_2": "--const_arg_from_cli_2",
    }


def test_tunables_stand_at_their_defaults(file):
    assert space(example(file).spec).assign({}) == {
        "dummy_param": "dummy",
        "dummy_param_int": 0,
        "dummy_param_float": 0.5,
        "dummy_param3": 0.0,
    }


def test_globals_inline(file):
    inline = example(file, globals_=[GLOBALS])
    assert inline.spec == example(file).spec


def test_missing_ones_are_all_named(file):
    with pytest.raises(ConfigError) as caught:
        example(file, globals_=[GLOBALS.replace("globals_2", "elsewhere")], values={})
    assert caught.value.message == (
        "missing required parameters: const_arg_from_globals_2, const_arg_from_cli_2"
    )


@pytest.mark.heavy
def test_all_twelve_in_setup_run_and_teardown(file, tmp_path):
    loaded = example(file, tunables=["dummy_param_int=99", "dummy_param3=0.999"])
    mailbox = Mailbox(open_store(str(tmp_path / "store")), loaded.spec.name)
    post(loaded.spec, mailbox, plain(loaded.spec), lambda: None)
    run = mailbox.run("t0001-s1")
    assert run.parameters == COMBINED
    frozen = run_record(loaded.spec, open_workload(loaded.spec), "t0001-s1", 1)
    assert run == frozen.model_copy(update={"streams": STREAMS})

    scratch, spec = tmp_path / "scratch", bound(loaded.spec, run)
    context = context_of(mailbox, spec, run, Phase.TRAIN, scratch)
    outcome = ScriptWorkload().train(context)
    for stage in ("setup", "run", "teardown"):
        assert json.loads((tmp_path / f"seen-{stage}.json").read_text()) == COMBINED
    assert outcome.summary["metrics"] == {"seen": 99}
