"""Short files, and frequent fields as options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from drillyard.authoring.short import Short, from_options
from drillyard.cli.main import build, main
from drillyard.documents.yaml_safe import parse_yaml
from drillyard.errors import ConfigError, ConfigErrors, NotFound
from drillyard.spec.experiment import ExperimentSpec
from drillyard.spec.field_options import seeds_of, steps_of
from drillyard.spec.load import load
from drillyard.spec.schema import STEP_COUNTS, document
from tests.helpers.refusals import refusals

FILE = "name: x\nsimulator: {id: cstr}\nlearner: {algorithm: ppo}\n"


def spec_of(folder: Path, text: str, **options: Any) -> ExperimentSpec:
    (folder / "a.yaml").write_text(text, encoding="utf-8")
    return load(folder / "a.yaml", **options).spec


# -- counts of steps ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "steps"),
    [("50k", 50_000), ("1.5M", 1_500_000), ("2K", 2000), ("0.5m", 500_000), ("50_000", 50_000)],
)
def test_steps_with_a_unit(tmp_path, text, steps):
    assert steps_of(text) == steps
    spec = spec_of(tmp_path, f"{FILE}train: {{steps: {text}, checkpoint_every: {text}}}\n")
    assert spec.train is not None
    assert (spec.train.steps, spec.train.checkpoint_every) == (steps, steps)
    assert spec == spec_of(
        tmp_path, f"{FILE}train: {{steps: {steps}, checkpoint_every: {steps}}}\n"
    )


def test_every_count_of_steps_takes_a_unit_and_the_schema_says_so(tmp_path):
    text = (
        "name: x\nsimulator: {id: cstr, curriculum: {stages: [{promote: {steps: 1k}}, "
        "{lesson: {}}]}}\n"
        "learner: {algorithm: sac, preset: null, args: {learning_starts: 1k, buffer_size: 20k, "
        "gamma: {tune: [0.9, 0.99]}}}\n"
        "train: {steps: 50k, checkpoint_every: 5k, log_interval: 1k, n_envs: {tune: [1, 4]}}\n"
        "evaluate: {every: {steps: 5k}}\nbaselines: [hold]\n"
        "study: {trials: 20, budget: {steps: 1M}, "
        "pruner: {type: halving, warmup_steps: 1k, min_steps: 2k}}\n"
    )
    spec = spec_of(tmp_path, text)
    assert spec.learner is not None and spec.study is not None
    assert spec.learner.args["learning_starts"] == 1000
    assert spec.learner.args["buffer_size"] == 20_000
    assert spec.study.budget.steps == 1_000_000
    assert all(field in text for _, field in STEP_COUNTS)
    jsonschema.validate(parse_yaml(text, "a.yaml").value, document())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(parse_yaml(text.replace("50k", "50x"), "a").value, document())


@pytest.mark.parametrize("text", ["50x", "0", "-1", "1.2345k", "many", "", "true", "11000M"])
def test_other_steps_are_refused(text):
    with pytest.raises(ConfigError) as caught:
        steps_of(text)
    error = caught.value
    assert (error.file, error.field, error.value) == ("command line", "--steps", text)
    assert "50k" in str(error.allowed) and error.hint


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", [1, 2, 3]), ("1", [1]), ("5,7", [5, 7]), ("[5, 7]", [5, 7])]
)
def test_seeds(text, seeds):
    assert seeds_of(text) == seeds


@pytest.mark.parametrize("text", ["0", "-1", "x", "1,x", "1,1", "[]", "1.5", "10001", "3,-1"])
def test_other_seeds_are_refused(text):
    with pytest.raises(ConfigError, match="number of seeds") as caught:
        seeds_of(text)
    assert (caught.value.field, caught.value.value) == ("--seeds", text)


# -- options over a file --------------------------------------------------------------------------


def test_options_lie_over_the_file(tmp_path):
    loaded_text = FILE + "train: {steps: 10_000}\nseeds: [9]\n"
    (tmp_path / "a.yaml").write_text(loaded_text)
    loaded = load(tmp_path / "a.yaml", values={"steps": "50k", "seeds": "3"})
    assert loaded.spec.train is not None and loaded.spec.train.steps == 50_000
    assert loaded.spec.seeds == [1, 2, 3]
    assert loaded.provenance["train.steps"] == "--steps"
    assert loaded.provenance["seeds"] == "--seeds"
    assert spec_of(tmp_path, FILE, values={"steps": "5k"}).train is not None


def test_a_parameter_of_the_file_keeps_its_name(tmp_path):
    text = FILE + "train: {steps: 10_000}\nparameters: {const_args: {steps: 3, algorithm: a}}\n"
    spec = spec_of(tmp_path, text, values={"steps": "7", "algorithm": "b"})
    assert spec.train is not None and spec.train.steps == 10_000
    assert spec.parameters.const_args == {"steps": 7, "algorithm": "b"}


def test_a_file_and_a_simulator_together(tmp_path):
    values = {"simulator": "CartPole-v1", "algorithm": "sac", "steps": "50x", "seeds": "0"}
    errors = refusals(spec_of, tmp_path, FILE + "train: {steps: 10_000}\n", values=values)
    fields = {getattr(error, "field", None) for error in errors}
    assert fields == {"--simulator", "--algorithm", "--steps", "--seeds"}
    assert all("line" in str(error) for error in errors)


# -- short files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "simulator", "steps"),
    [("ppo", "CartPole-v1", 50_000), ("SAC", "cstr", 20_000), ("dqn", "simple-adder", 100_000)],
)
def test_short_files_load(tmp_path, algorithm, simulator, steps):
    short = from_options(algorithm, simulator, seeds="3")
    assert len(short.text.splitlines()) < 25
    spec = spec_of(tmp_path, short.text)
    assert spec.learner is not None and spec.simulator is not None and spec.train is not None
    assert (spec.learner.algorithm, spec.simulator.id) == (algorithm.lower(), simulator)
    assert (spec.train.steps, spec.seeds) == (steps, [1, 2, 3])


def test_all_wrong_options_at_once():
    with pytest.raises(ConfigErrors) as caught:
        from_options("pppo", "CartPole-v1", name="../x", steps="50x", seeds="0")
    errors = caught.value.errors
    fields = [getattr(error, "field", None) for error in errors]
    assert fields == ["--name", "--algorithm", "--steps", "--seeds"]
    assert "ppo" in str(getattr(errors[1], "allowed", "")) and errors[1].hint


def test_a_refused_experiment_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    short = Short("ppo", "CartPole-v1", "x", 1000)
    with pytest.raises(NotFound), short.written():
        raise NotFound("a refusal")
    assert list(tmp_path.iterdir()) == []
    with short.written():
        pass
    with pytest.raises(NotFound), Short("ppo", "CartPole-v1", "x", 2000).written() as path:
        assert "2_000" in path.read_text()
        raise NotFound("a refusal")
    assert (tmp_path / "x.yaml").read_text() == short.text


def test_an_edited_file_is_never_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "x.yaml"
    with Short("ppo", "CartPole-v1", "x", 1000).written():
        pass
    with Short("ppo", "CartPole-v1", "x", 2000, [1, 2]).written():
        pass
    assert "seeds: [1, 2]" in file.read_text()
    file.write_text(file.read_text() + "# mine\n")
    edited = file.read_text()
    for steps in (2000, 3000):
        with (
            pytest.raises(ConfigError, match=r"x\.yaml exists") as caught,
            Short("ppo", "CartPole-v1", "x", steps, [1, 2]).written(),
        ):
            pass
        assert "drillyard run x.yaml" in str(caught.value.hint)
    assert file.read_text() == edited


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], ["--algorithm and --simulator", "drillyard run -a ppo -s CartPole-v1"]),
        (["run", "-a", "ppo"], ["--simulator: is missing"]),
        (["run", "-a", "ppo", "-s", "CartPole-v1", "--steps", "50x"], ["--steps", "50k"]),
        (["run", "-a", "no", "-s", "CartPole-v1"], ["--algorithm: unknown learner", "a2c"]),
        (["run", "-a", "sac", "-s", "CartPole-v1"], ["--algorithm: sac cannot act"]),
        (["generate", "-a", "ppo", "-s", "cstr", "--seeds", "3"], ["add --short"]),
        (["generate", "-a", "ppo", "-s", "cstr", "--steps", "50x"], ["--steps", "50k"]),
    ],
)
def test_commands_refuse(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    errors = capsys.readouterr().err
    assert all(text in errors for text in [*said, "fix:"]), errors
    assert list(tmp_path.iterdir()) == []


def test_generate_short(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["generate", "--short", "-a", "ppo", "-s", "cstr", "--steps", "50k", "-o", "e.yaml"]
    app, _ = build(words)
    assert CliRunner().invoke(app, words).exit_code == 0
    assert len((tmp_path / "e.yaml").read_text().splitlines()) < 25
    spec = load(tmp_path / "e.yaml").spec
    assert spec.train is not None and spec.train.steps == 50_000
    assert main(words) == 2
    again = CliRunner().invoke(app, [*words[:-2], "--name", "other"])
    assert "name: other" in again.stdout and json.dumps("e.yaml") not in again.stdout
