"""From a file to an experiment: the shipped files, JSON, plug-ins, records, speed."""

import json
import sys
import time
from pathlib import Path

import pytest

from drillyard.errors import ConfigError
from drillyard.spec.load import load, load_resolved
from tests.helpers.processes import run_process
from tests.helpers.refusals import refusals

EXPERIMENTS = Path(__file__).parents[3] / "experiments"
MINIMAL = "name: x\nsimulator: {id: cstr}\nlearner: {algorithm: ppo}\ntrain: {steps: 10_000}\n"


@pytest.mark.parametrize("file", sorted(EXPERIMENTS.glob("*.yaml")), ids=lambda p: p.name)
def test_shipped_experiments_load(file):
    loaded = load(file)
    assert loaded.folder == EXPERIMENTS
    assert loaded.text.startswith("#")
    assert loaded.provenance["name"].startswith(f"{file.name}:")


def test_yaml_and_json_are_the_same_experiment(tmp_path):
    (tmp_path / "a.yaml").write_text(MINIMAL)
    (tmp_path / "a.json").write_text(
        '{"name": "x", // a comment\n"simulator": {"id": "cstr"},\n'
        '"learner": {"algorithm": "ppo"},'
        '\n"train": {"steps": 1e4}}'
    )
    first, second = load(tmp_path / "a.yaml"), load(tmp_path / "a.json")
    assert first.spec == second.spec
    assert second.provenance["train.steps"] == "a.json:4"


@pytest.mark.parametrize(("gpu", "near"), [("H1000", "H100"), ("a100", "A100"), ("L4x", "L4")])
def test_a_gpu_that_does_not_exist_is_refused_with_the_nearest(tmp_path, gpu, near):
    file = tmp_path / "a.yaml"
    file.write_text(f"{MINIMAL}resources: {{gpu: {gpu}}}\n")
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert caught.value.field == "resources.gpu"
    assert caught.value.hint.startswith(f"did you mean {near!r}")
    assert gpu != "a100" or caught.value.hint == "did you mean 'A100'?", "it differs in case alone"


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("return_range: {min: 5, max: 1}", "expected a list", "write a list: [1, 5]"),
        ("return_range: 5", "expected a list", "write a list, such as [0, 1]"),
        ("return_range: [5]", "too few items", "change or remove it"),
        ("return_range: [a, 3]", "expected a number", "without quotes"),
        ("wrappers: {name: normalize}", "expected a list", "[{'name': 'normalize'}]"),
    ],
)
def test_the_fix_of_a_list_is_a_list_that_is_accepted(tmp_path, line, message, hint):
    file = tmp_path / "a.yaml"
    file.write_text(MINIMAL.replace("id: cstr", f"id: cstr, {line}"))
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert caught.value.message == message and hint in caught.value.hint
    if "range" in line:
        assert "2 numbers" in caught.value.allowed or caught.value.allowed == "a number"


def test_names_in_a_mapping_become_a_list(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(f"{MINIMAL}baselines: {{random: null}}\n")
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert caught.value.hint == "write a list: [random]"


def test_a_baseline_is_listed_once_and_is_not_the_trained_policy(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(f"{MINIMAL}baselines: [hold, hold, agent]\n")
    errors = refusals(load, file)
    messages = {(e.field, e.message) for e in errors}
    assert ("baselines[1]", "is listed twice") in messages
    assert ("baselines[2]", "is the name of the trained policy") in messages


def test_preset_lies_under_the_file(tmp_path):
    file = tmp_path / "a.yaml"
    text = MINIMAL.replace("cstr", "CartPole-v1")
    file.write_text(text.replace("{algorithm: ppo}", "{algorithm: PPO, args: {gamma: 0.5}}"))
    loaded = load(file)
    assert loaded.spec.learner is not None
    assert loaded.spec.learner.args["gamma"] == 0.5
    assert loaded.spec.learner.args["n_steps"] == 32
    assert loaded.provenance["learner.args.gamma"] == "a.yaml:3"
    assert loaded.provenance["learner.args.n_steps"] == "preset cartpole/ppo"
    assert any("preset cartpole/ppo" in f.message for f in loaded.findings)
    assert load(file, sets=["learner.preset=null"]).spec.learner.args == {"gamma": 0.5}
    assert "n_steps" in load(file, sets=["learner.preset=cartpole/ppo"]).spec.learner.args
    with pytest.raises(ConfigError, match="no such preset") as caught:
        load(file, sets=["learner.preset=cartpol/ppo"])
    assert "cartpole/ppo" in str(caught.value.hint)
    file.write_text(text.replace("CartPole-v1", "simple-adder"))
    assert load(file).spec.learner.args == {}


def test_provenance_names_every_value(tmp_path):
    (tmp_path / "a.yaml").write_text(MINIMAL)
    loaded = load(tmp_path / "a.yaml")
    from drillyard.authoring.explain import values

    rows = values(loaded)
    shown = {path for path, _, _ in rows}
    # Shown too: what `auto` comes to, and what a record leaves out at its default.
    more = {"train.copies", "learner.engine", "resources.precision", "resources.runs_per_process"}
    assert shown == {*loaded.provenance} | more
    assert ("train.steps", 10_000, "a.yaml:4") in rows
    assert ("backend", "local", "default") in rows


def test_a_record_loads_again(tmp_path):
    (tmp_path / "a.yaml").write_text(MINIMAL)
    loaded = load(tmp_path / "a.yaml")
    again = load_resolved(
        json.loads(loaded.spec.model_dump_json(by_alias=True)),
        folder=tmp_path,
        provenance=loaded.provenance,
    )
    assert again.spec == loaded.spec
    assert again.provenance == loaded.provenance
    with pytest.raises(ConfigError, match=r"experiment.json.*train.steps"):
        load_resolved(
            {
                "name": "x",
                "simulator": {"id": "cstr"},
                "train": {"steps": 0},
                "learner": {"algorithm": "ppo"},
            },
            folder=tmp_path,
        )


def test_errors_of_others_are_located(tmp_path):
    (tmp_path / "a.yaml").write_text(MINIMAL.replace("ppo}", "ppo,\n  args: {gamma: 0.9}}"))
    loaded = load(tmp_path / "a.yaml")
    error = loaded.locate(ConfigError("is odd", field="learner.args.gamma"))
    assert (error.file, error.line) == ("a.yaml", 4)
    assert error.hint


@pytest.mark.heavy
def test_torch_is_not_imported(tmp_path):
    """A control plane has no torch: loading must not need it."""

    (tmp_path / "a.yaml").write_text(MINIMAL)
    code = (
        "import sys\nfrom drillyard.spec.load import load\n"
        f"load({str(tmp_path / 'a.yaml')!r})\n"
        "heavy = {'torch', 'stable_baselines3', 'gymnasium', 'prefect', 'mlflow'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = run_process([sys.executable, "-c", code], check=True)
    assert done.stdout.strip() == "[]"


def test_a_thousand_parameters(tmp_path):
    lines = "\n".join(f"    p_{n}: value-{n}-${{experiment_id}}" for n in range(1000))
    (tmp_path / "a.yaml").write_text(f"{MINIMAL}parameters:\n  const_args:\n{lines}\n")
    began = time.perf_counter()
    loaded = load(tmp_path / "a.yaml")
    print(f"1,000 parameters: {time.perf_counter() - began:.2f} s")
    assert loaded.spec.parameters.const_args["p_999"] == "value-999-x"
    assert loaded.provenance["parameters.const_args.p_999"] == (
        "the experiment's name through ${experiment_id}"
    )


def test_several_errors_at_once(tmp_path):
    (tmp_path / "a.yaml").write_text(MINIMAL + "seeds: [-1]\nbackends: 3\nevaluat: {}\n")
    errors = refusals(load, tmp_path / "a.yaml")
    assert [(e.line, e.field) for e in errors] == [
        (5, "seeds[0]"),
        (6, "backends"),
        (7, "evaluat"),
    ]
    assert "'evaluate'" in str(errors[2].hint)


def test_a_missing_file_is_told_as_it_was_typed_with_what_lies_beside_it(tmp_path, monkeypatch):
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "cstr.yaml").write_text("name: x\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^lab/cstr\.yml: no such file") as caught:
        load("lab/cstr.yml")
    assert caught.value.hint == "did you mean 'lab/cstr.yaml'?"


def test_a_file_that_is_not_yaml_is_told_before_globals_that_are_missing(tmp_path):
    (tmp_path / "exp.yaml").write_text("name: x\nseeds: [1\n")
    with pytest.raises(ConfigError, match="not YAML"):
        load(tmp_path / "exp.yaml", globals_=["missing.yaml"])


def test_an_unknown_option_leads_to_the_fields_of_the_file(tmp_path):
    file = tmp_path / "exp.yaml"
    file.write_text("name: x\nworkload: mock\n")
    with pytest.raises(ConfigError, match="declares no parameter 'stpes'") as caught:
        load(file, values={"stpes": "3"})
    assert caught.value.hint == "change a field of the file by --set path=value"


def test_mistakes_are_told_in_the_order_of_the_file_with_our_names(tmp_path):
    file = tmp_path / "zoo.yaml"
    file.write_text(
        "name: zoo\nenv: CartPole-v1\nseed: 3\n"
        "simulator: {name: CartPole-v1}\nlearner: {name: ppo}\ntrain: {total_timesteps: 1000}\n"
    )
    errors = refusals(load, file)
    lines = [e.line or 0 for e in errors]
    assert lines == sorted(lines)
    hints = {e.field: e.hint for e in errors}
    assert hints["env"] == "did you mean 'simulator.id'?"
    assert hints["seed"] == "did you mean 'seeds'?"
    assert hints["simulator.name"] == "did you mean 'simulator.id'?"
    assert hints["learner.name"] == "did you mean 'learner.algorithm'?"
    assert not any("stage_of" in (e.allowed or "") for e in errors)
