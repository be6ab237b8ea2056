"""Layers of values and references: who wins, and who is told to have won."""

import pytest

from drillyard.documents.yaml_safe import parse_yaml
from drillyard.errors import ConfigError, UserError
from drillyard.spec.load import load
from drillyard.spec.precedence import Merged, command_line, leaves, parse_dotted, tunable_line
from drillyard.spec.references import reveal
from tests.helpers.refusals import refusals

FILE = """\
name: layers
simulator: {id: cstr, args: {}}
learner:
  algorithm: PPO
  preset: null
  args: {learning_rate: $lr, n_steps: 64}
train:
  steps: 10_000
parameters:
  const_args: {lr: 1e-3, note: "${experiment_id}-$lr"}
  required_args: [width]
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "exp.yaml"
    path.write_text(FILE)
    return path


def test_command_line_over_globals_over_file_over_default(file, tmp_path):
    (tmp_path / "one.yaml").write_text("width: 8\nlr: 2e-3\ntrain: {steps: 20_000, n_envs: 2}\n")
    (tmp_path / "two.json").write_text('// later wins\n{"train": {"n_envs": 4}, "width": 16}')
    loaded = load(
        file,
        globals_=[str(tmp_path / "one.yaml"), str(tmp_path / "two.json")],
        sets=["train.steps=30_000", "learner.args.batch_size=32"],
        values={"lr": "5e-4"},
    )
    spec, where = loaded.spec, loaded.provenance
    assert spec.train is not None and spec.learner is not None
    assert (spec.train.steps, spec.train.n_envs) == (30_000, 4)
    assert spec.learner.args == {"learning_rate": 0.0005, "n_steps": 64, "batch_size": 32}
    assert spec.learner.algorithm == "ppo"
    assert spec.parameters.const_args == {"lr": 0.0005, "width": 16, "note": "layers-0.0005"}
    assert where["train.steps"] == "--set"
    assert where["train.n_envs"] == "two.json:2"
    assert where["learner.args.n_steps"] == "exp.yaml:6"
    assert where["learner.args.learning_rate"] == "--lr through $lr"
    assert where["parameters.const_args.width"] == "two.json:2"
    assert where["train.log_interval"] == "default"


def test_global_values_may_be_given_in_the_command(file):
    loaded = load(file, globals_=['{"width": 3}'])
    assert loaded.spec.parameters.const_args["width"] == 3
    assert loaded.provenance["parameters.const_args.width"] == "--globals:1"


def test_unused_globals_are_told(file):
    loaded = load(file, globals_=["{width: 1, widht: 2}"])
    assert any("widht" in f.message and f.severity == "warning" for f in loaded.findings)


@pytest.mark.parametrize("name", ["globals", "store", "seeds", "a b", "1x"])
def test_illegal_parameter_names(file, name):
    file.write_text(FILE.replace("[width]", f"['{name}']"))
    with pytest.raises(UserError, match=r"option or of a field|not a parameter name"):
        load(file)


def test_tunables(file, tmp_path):
    (tmp_path / "groups.yaml").write_text(
        "net:\n  cost: 1\n  params:\n    width: {type: int, range: [64, 256], default: 128}\n"
    )
    file.write_text(
        FILE.replace("n_steps: 64", "n_steps: $width")
        + "  include_tunables: [groups.yaml]\n  tunable_params: [$which]\n"
    )
    loaded = load(file, globals_=["{tunable_params_map: {which: [net]}}"])
    assert loaded.spec.learner is not None
    assert loaded.spec.learner.args["n_steps"] == 128
    assert loaded.provenance["learner.args.n_steps"] == (
        "groups.yaml:4 through the default of net.width"
    )
    assert "net" in loaded.spec.parameters.tunables


def test_references_are_replaced_by_parameters_and_variables(file, monkeypatch):
    monkeypatch.setenv("D_STEPS", "4096")
    monkeypatch.setenv("D_KEY", "canary-value")
    file.write_text(
        FILE.replace(
            "args: {}",
            "args: {a: '$$5', b: 'x-${width}-y', api_key: '${env:D_KEY}', c: ['$width'], "
            "token: 'file:/run/${env:D_KEY}/$width'}",
        ).replace("10_000", "${env:D_STEPS}")
    )
    loaded = load(file, values={"width": "3"})
    assert loaded.spec.simulator is not None and loaded.spec.train is not None
    assert loaded.spec.simulator.args == {
        "a": "$5",
        "b": "x-3-y",
        "api_key": "${env:D_KEY}",
        "c": [3],
        "token": "file:/run/${env:D_KEY}/3",
    }
    assert loaded.spec.train.steps == 4096
    assert loaded.provenance["train.steps"] == "exp.yaml:8 through ${env:D_STEPS}"
    assert "canary-value" not in loaded.spec.model_dump_json()
    assert reveal(loaded.spec.simulator.args)["api_key"] == "canary-value"
    monkeypatch.delenv("D_KEY")
    with pytest.raises(ConfigError, match="no variable D_KEY"):
        reveal(loaded.spec.simulator.args)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("$widht", "not declared"),
        ("${env:D_NOPE}", "no variable D_NOPE"),
        ("${a.b}", "is not a reference"),
        ("${env:D_SECRET}", "holds a secret"),
    ],
)
def test_a_broken_reference_is_refused_without_its_secret(file, monkeypatch, value, message):
    monkeypatch.setenv("D_SECRET", "sk-abcdefghijklmnopqrstuvwxyz")
    file.write_text(FILE.replace("args: {}", f"args: {{x: '{value}'}}"))
    with pytest.raises(ConfigError, match=message) as caught:
        load(file, values={"width": "1"})
    assert (caught.value.line, caught.value.field) == (2, "simulator.args.x")
    assert "abcdefghijkl" not in str(caught.value)


def test_parameters_that_refer_to_each_other_are_refused(file):
    file.write_text(FILE.replace('lr: 1e-3, note: "${experiment_id}-$lr"', "lr: $b, b: $lr"))
    with pytest.raises(Exception, match="circle"):
        load(file, values={"width": "1"})


def test_set_items_of_lists(file):
    below = {"seeds": [1, 2, 3], "a": {"b": [{"c": 1}]}, "name": "x"}
    document = command_line(["seeds[1]=9", "a.b[0].c=5"], below)
    assert document.value == {"seeds": [1, 9, 3], "a": {"b": [{"c": 5}]}}
    assert below["seeds"] == [1, 2, 3]
    for text in ("seeds[7]=1", "=1", "seeds", "a..b=1", "seeds[0].x=1", "name[0]=y"):
        with pytest.raises(ConfigError):
            command_line([text], below)


def test_lists_are_replaced_and_mappings_merged():
    merged = Merged()
    merged.lay(parse_yaml("a: {x: 1, y: [1, 2, 3]}\nb: {c: 1}\n", "low"))
    merged.lay(parse_yaml("a: {y: [9]}\nb: 5\n", "high"))
    assert merged.tree == {"a": {"x": 1, "y": [9]}, "b": 5}
    assert str(merged.place(("a", "y"))) == "high:1"
    assert str(merged.place(("a", "x"))) == "low:1"
    assert ("b", "c") not in merged.places
    assert ("a", "y", 2) not in merged.places


def test_dotted_names_are_read_and_leaves_listed():
    assert parse_dotted("a.b[0].c") == ("a", "b", 0, "c")
    assert parse_dotted("") == ()
    assert list(leaves({"a": {"b": 1, "c": {}}, "d": [1]})) == [("a", "b"), ("a", "c"), ("d",)]


def test_every_wrong_option_is_reported_at_once():
    errors = refusals(
        command_line, ["train.steps", "=3", "a=1", "a=2", "seeds[7]=1", "name=x"], {"seeds": [1]}
    )
    assert len(errors) == 4
    errors = refusals(tunable_line, ["a", "b=1", "b=2", "c=1"])
    assert len(errors) == 2


def test_what_else_is_wrong_is_reported_beside_parameters(tmp_path):
    """An unknown reference, an unknown preset, a wrong argument and an unknown baseline."""
    (tmp_path / "a.yaml").write_text(
        "name: x\nsimulator: {id: cstr, args: {a: $nope}}\n"
        "learner: {algorithm: ppo, preset: none-such, args: {gamma: 3, n_epochs: $neither}}\n"
        "train: {steps: 1000}\nbaselines: [holt]\n"
    )
    errors = refusals(load, tmp_path / "a.yaml")
    fields = [error.field for error in errors]
    assert sorted(fields) == [
        "baselines[0]",
        "learner.args.gamma",
        "learner.args.n_epochs",
        "learner.preset",
        "simulator.args.a",
    ]
