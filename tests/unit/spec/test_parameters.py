"""Who gets which parameter: experiments, runs, children; and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from drillyard.cli.main import main
from drillyard.errors import ConfigError, UserError
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import ExperimentRecord, RunRecord
from drillyard.runs.identity import difference, parts
from drillyard.runs.submit import plain, post
from drillyard.spec.binding import bind, bound, bound_tree, child_parameters, run_parameters
from drillyard.spec.experiment import ChildSpec
from drillyard.spec.load import load, load_resolved
from drillyard.tracking.params_and_tags import run_params
from tests.helpers.refusals import refusals

MOCK = "workload: mock\n"
GROUP = """\
  tunables:
    net: {cost: 2, params: {lr: {type: float, range: [0, 1], default: 0.5},
                            width: {type: int, range: [1, 512], default: 64}}}
"""


def write(folder: Path, text: str, name: str = "exp.yaml") -> Path:
    path = folder / name
    path.write_text(text if text.startswith("name:") else f"name: exp\n{MOCK}{text}")
    return path


def given(file: Path, *, seed: int = 1, trial: int = 1, **options: Any) -> dict[str, Any]:
    spec = load(file, **options).spec
    return run_parameters(spec, run=f"t{trial:04d}-s{seed}", seed=seed, trial=trial)


ALWAYS = {"experiment_id": "exp", "trial_id": 1, "trial_runner_id": 1}


def test_only_what_is_declared(tmp_path):
    file = write(tmp_path, "parameters: {const_args: {a: 1}, required_args: [b, a]}\n")
    assert given(file, globals_=["{b: 2, c: 3}"]) == {**ALWAYS, "a": 1, "b": 2}
    assert given(file, globals_=["{b: 2, a: 5}", "{b: 4}"], values={"a": "6"}) == {
        **ALWAYS,
        "a": 6,
        "b": 4,
    }


def test_dashes_and_types_of_the_command_line(tmp_path):
    file = write(tmp_path, "parameters: {required_args: [my_a, b, c, d]}\n")
    line = {"my-a": "1", "b": "1e-3", "c": "yes", "d": "[1, x]"}
    assert given(file, values=line) == {**ALWAYS, "my_a": 1, "b": 0.001, "c": "yes", "d": [1, "x"]}


def test_all_missing_ones_in_one_error(tmp_path):
    file = write(tmp_path, "parameters: {required_args: [a, b, c]}\n")
    with pytest.raises(ConfigError, match="missing required parameters: a, c") as caught:
        load(file, values={"b": "1"})
    assert caught.value.hint == "set --a … --c …"
    assert caught.value.line == 3


def test_a_tunable_meets_a_requirement(tmp_path):
    text = f"parameters:\n  required_args: [lr]\n  tunable_params: [net]\n{GROUP}"
    file = write(tmp_path, text)
    assert given(file) == {**ALWAYS, "lr": 0.5, "width": 64}
    assert given(file, tunables=["lr=0.25", "width=42"])["lr"] == 0.25
    assert given(file, sets=["parameters.tunable_values.width='7'"])["width"] == 7
    with pytest.raises(ConfigError, match="missing required parameter: lr"):
        load(file, sets=["parameters.tunable_params=[]"])


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"values": {"lr": "7"}}, "--lr"),
        ({"globals_": ["{lr: 7}"]}, "--globals"),
        ({"sets": ["parameters.const_args.lr=7"]}, "--set"),
    ],
)
def test_nothing_wins_silently_over_a_tunable(tmp_path, options, where):
    """The older system ran with the 7 and stored the tunable's own value."""
    file = write(tmp_path, f"parameters:\n  tunable_params: [net]\n{GROUP}")
    with pytest.raises(ConfigError, match="'lr' is an active tunable") as caught:
        load(file, **options)
    assert caught.value.file == where
    assert "--tunable lr=" in str(caught.value.hint)
    inactive = {
        **options,
        "sets": [
            *options.get("sets", []),
            "parameters.tunable_params=[]",
            "parameters.required_args=[lr]",
        ],
    }
    assert given(file, **inactive)["lr"] == 7


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"tunables": ["lr=2"]}, "is out of range", "the nearest is 1"),
        ({"tunables": ["width=1.5"]}, "would lose its fraction", ""),
        ({"tunables": ["widht=1"]}, "not an active tunable", "did you mean 'width'"),
        ({"tunables": ["lr"]}, "is not name=value", ""),
        ({"sets": ["parameters.tunable_params=[nte]"]}, "no such group", "did you mean 'net'"),
        ({"sets": ["parameters.tunable_params=['$a']"]}, "not in tunable_params_map", ""),
        (
            {"sets": ["parameters.tunable_params=[]", "parameters.const_args={x: $lr}"]},
            "of the group 'net', which is not active",
            "tunable_params",
        ),
        (
            {
                "sets": ["parameters.tunable_params=['$whihc']"],
                "globals_": ["{tunable_params_map: {which: [net]}}"],
            },
            "not in",
            "'which'",
        ),
        ({"sets": ["parameters.include_tunables=[nope.yaml]"]}, "'nope.yaml' no such file", ""),
        ({"sets": ["parameters.per_run=[]"]}, "is written by drillyard", "delete it"),
        ({"globals_": ["{trial_id: 3}"]}, "is set by each run", ""),
        ({"values": {"seed": "3"}}, "is set by each run", "seeds: [1, 2]"),
    ],
)
def test_refusals(tmp_path, options, message, hint):
    file = write(tmp_path, f"parameters:\n  tunable_params: [net]\n{GROUP}")
    with pytest.raises(ConfigError, match=message) as caught:
        load(file, **options)
    assert hint in str(caught.value.hint)
    assert caught.value.file


def test_what_only_drillyard_writes_is_told_with_its_line_beside_values_of_each_run(tmp_path):
    text = f"parameters:\n  per_run: 3\n  tunable_params: [net]\n{GROUP}mock: {{noise: $lr}}\n"
    with pytest.raises(ConfigError, match="is written by drillyard") as caught:
        load(write(tmp_path, text))
    assert (caught.value.file, caught.value.line) == ("exp.yaml", 4)


def test_a_tunable_that_cannot_be_is_told_with_its_line(tmp_path):
    text = f"parameters:\n  tunable_params: [net]\n{GROUP.replace('default: 64', 'default: 0')}"
    with pytest.raises(ConfigError, match="its default 0 is out of range") as caught:
        load(write(tmp_path, text))
    assert (caught.value.line, caught.value.field) == (
        7,
        "parameters.tunables.net.params.width.default",
    )
    with pytest.raises(ConfigError, match="unknown key 'rang'") as caught:
        load(write(tmp_path, text.replace("range: [1", "rang: [1").replace(": 0}", ": 1}")))
    assert "'range'" in str(caught.value.hint)


def test_the_map_and_the_empty_list(tmp_path):
    file = write(tmp_path, f"parameters:\n  tunable_params: [$some, '${{none}}']\n{GROUP}")
    both = load(file, globals_=["{tunable_params_map: {some: [net], none: []}}"])
    assert both.spec.parameters.tunable_params == ["net"]
    assert given(file, globals_=["{tunable_params_map: {some: [], none: []}}"]) == ALWAYS


# -- what a run gives -----------------------------------------------------------------------------

LATE = """\
seeds: [0, 7]
parameters:
  const_args:
    folder: /storage/$experiment_id/$trial_id/
    nested: {deep: ["$seed", {text: "s${seed}-$lr", dollar: "$$seed"}]}
    again: $nested
  tunable_params: [net]
"""


def test_references_to_the_run_and_to_tunables(tmp_path):
    file = write(tmp_path, LATE + GROUP)
    found = given(file, seed=7, trial=3)
    nested = {"deep": [7, {"text": "s7-0.5", "dollar": "$seed"}]}
    assert found == {
        "experiment_id": "exp",
        "trial_id": 3,
        "trial_runner_id": 1,
        "seed": 7,
        "lr": 0.5,
        "width": 64,
        "folder": "/storage/exp/3/",
        "nested": nested,
        "again": nested,
    }
    assert given(file, seed=0)["nested"]["deep"][0] == 0  # seed 0 is a seed
    loaded = load(file)
    assert loaded.provenance["parameters.const_args.nested.deep"] == "exp.yaml:7"
    assert loaded.provenance["parameters.const_args.folder"].endswith(
        "each run has its own: /storage/exp/${trial_id}/"
    )


@pytest.mark.parametrize(
    ("word", "value"), [("$seed", "4"), ("$rate", "0.5"), ("${run_id}", "t0001-s4")]
)
def test_a_number_is_text_as_a_word_of_a_command(tmp_path, word, value):
    file = tmp_path / "words.yaml"
    file.write_text(
        f"""schema: 1
name: words
workload: script
seeds: [3, 4]
parameters: {{const_args: {{rate: 0.5}}}}
script:
  setup: [[echo, "{word}"]]
  run: [[python, work.py, "{word}"], "echo {word}"]
  results: {{stdout: '(a)=(b)'}}
"""
    )
    found = bind(load(file).spec, {"rate": 0.5, "run_id": "t0001-s4", "seed": 4}).script
    assert found is not None
    assert found.setup == [["echo", value]]
    assert found.run == [["python", "work.py", value], f"echo {value}"]


def test_seed_and_run_id_only_where_wanted(tmp_path):
    file = write(tmp_path, "parameters: {required_args: [run_id, trial_id]}\n")
    assert given(file, seed=5) == {**ALWAYS, "run_id": "t0001-s5"}


@pytest.mark.parametrize("field", ["budget.max_hours", "name", "backend", "resources.threads"])
def test_what_is_the_same_for_all_runs_cannot_name_one(tmp_path, field):
    with pytest.raises(UserError, match="same for all runs"):
        load(write(tmp_path, "seeds: [1]\n"), sets=[f"{field}=$seed"])


def test_a_run_is_bound_on_the_worker(tmp_path):
    file = write(
        tmp_path,
        "name: exp\nsimulator: {id: cstr, args: {}}\nseeds: [3, 4]\n"
        "learner: {algorithm: ppo, preset: null, args: {learning_rate: $lr, policy_kwargs: "
        "{net_arch: [$width, $width]}}}\n"
        "train: {steps: 10_000}\nstore: [{url: './out/$run_id'}]\n"
        f"parameters:\n  tunable_params: [net]\n{GROUP}",
    )
    spec = load(file).spec
    run = RunRecord(
        run="t0002-s4",
        experiment="exp",
        seed=4,
        trial=2,
        parameters=run_parameters(
            spec, run="t0002-s4", seed=4, trial=2, assignment={"lr": "0.125", "width": 8}
        ),
    )
    assert run.parameters["lr"] == 0.125
    there = bound(spec, run)
    assert there.learner is not None
    assert there.learner.args == {"learning_rate": 0.125, "policy_kwargs": {"net_arch": [8, 8]}}
    assert there.store[0].url == "./out/t0002-s4"
    record = ExperimentRecord(
        name="exp", spec=json.loads(spec.model_dump_json()), identity="", created_at=0.0
    )
    assert bound_tree(record.spec, run)["store"][0]["url"] == "./out/t0002-s4"
    assert run_params(record, run, None)["learner.args.learning_rate"] == "0.125"
    with pytest.raises(ConfigError, match="out of range"):
        run_parameters(spec, run="t0002-s4", seed=4, assignment={"lr": 3})


def test_other_seeds_are_the_same_experiment(tmp_path):
    file = write(tmp_path, LATE + GROUP)
    first, more = load(file).spec, load(file, sets=["seeds=[9, 0]"]).spec
    assert difference(parts(first, None), parts(more, None)) == []
    other = load(file, tunables=["lr=0.1"]).spec
    changes = difference(parts(first, None), parts(other, None))
    assert [c.field for c in changes] == ["parameters.tunable_values"]


def test_a_value_that_the_field_does_not_take_is_named(tmp_path):
    file = write(tmp_path, "seeds: [1]\nmock: {noise: $seed}\n")
    with pytest.raises(ConfigError, match=r"mock\.noise.*refuses the value"):
        bind(load(file).spec, {"seed": "text", "run_id": "x"})


def test_records_hold_the_combined_values_and_resolve_again(tmp_path):
    loaded = load(write(tmp_path, LATE + GROUP), sets=["resources.workers=2"])
    mailbox = Mailbox(open_store(str(tmp_path / "store")), "exp")
    post(loaded.spec, mailbox, plain(loaded.spec), lambda: None)
    second = mailbox.run("t0001-s7")
    assert (second.parameters["seed"], second.parameters["trial_runner_id"]) == (7, 2)
    again = load_resolved(json.loads(loaded.spec.model_dump_json(by_alias=True)), folder=tmp_path)
    assert again.spec == loaded.spec


# -- children -------------------------------------------------------------------------------------

THIRD = "  - {file: child.yaml, name: third, prefix: true, parameters: {const_args: {z: third}}}\n"
COMPOSITE = f"""\
name: whole
workload: composite
seeds: [3, 4]
parameters:
  const_args: {{x: 1, y: from-parent, hidden: 5, at: "$experiment_id/$seed"}}
  tunable_params: [net]
{GROUP}
children:
  - name: first
    workload: mock
    parameters:
      const_args: {{x: default, own: "$at-$z", z: 7}}
      required_args: [lr, y]
  - child.yaml
{THIRD}"""
CHILD = """\
name: second
workload: mock
seeds: [1, 2, 3]
parameters:
  const_args: {z: own, y: $x2, x2: 9}
  tunables: {own: {params: {extra: {type: int, range: [0, 9], default: 4}}}}
  tunable_params: [own]
"""


def children(folder: Path, text: str = COMPOSITE, **options: Any) -> list[dict[str, Any]]:
    (folder / "child.yaml").write_text(CHILD)
    spec = load(write(folder, text), **options).spec
    values = run_parameters(spec, run="t0002-s4", seed=4, trial=2)
    there = bind(spec, {**values, "seed": 4, "run_id": "t0002-s4"})
    return [child_parameters(values, child) for child in there.children]


def test_children_get_what_they_declare_and_nothing_of_each_other(tmp_path):
    first, second, third = children(tmp_path)
    always = {"experiment_id": "whole", "trial_id": 2, "trial_runner_id": 1}
    assert first == {**always, "x": 1, "y": "from-parent", "lr": 0.5, "z": 7, "own": "whole/4-7"}
    assert second == {**always, "z": "own", "y": "from-parent", "x2": 9, "extra": 4}
    assert third == {**second, "z": "third"}


def test_a_sibling_s_tunable_does_not_leak(tmp_path):
    first, second, _ = children(tmp_path, COMPOSITE.replace("z: 7}", "z: 7, extra: mine}"))
    assert (first["extra"], second["extra"]) == ("mine", 4)


def test_names_of_runs_hold_what_the_run_has(tmp_path):
    text = f'{LATE}{GROUP}run_name: "{{name}}-s{{seed}}-$seed-lr$lr"\n'
    loaded = load(write(tmp_path, text), tunables=["lr=0.25"])
    mailbox = Mailbox(open_store(str(tmp_path / "store")), "exp")
    post(loaded.spec, mailbox, plain(loaded.spec), lambda: None)
    assert [mailbox.run(f"t0001-s{s}").name for s in (0, 7)] == [
        "exp-s0-0-lr0.25",
        "exp-s7-7-lr0.25",
    ]


def test_globals_win_over_the_parent(tmp_path):
    first, second, _ = children(
        tmp_path,
        globals_=["{x: global, z: 0, experiment_id: other}"],
        values={"y": "line"},
        tunables=["lr=0.25", "extra=5"],
    )
    assert (first["x"], first["y"], first["lr"], first["z"]) == ("global", "line", 0.25, 0)
    assert first["own"] == "other/4-0"
    assert (second["z"], second["y"], second["extra"]) == (0, "line", 5)
    assert second["experiment_id"] == "other"


def test_children_share_a_group_only_with_one_declaration(tmp_path):
    child = "  - {{name: {0}, workload: mock, parameters: {{tunables: {{net: {{params: {{lr: "
    child += "{{type: float, range: [0, 1], default: {1}}}}}}}}}, tunable_params: [net]}}}}\n"
    head = "name: exp\nworkload: composite\nchildren:\n"
    same = write(tmp_path, head + child.format("a", 0.5) + child.format("b", 0.5))
    assert given(same) == {**ALWAYS, "lr": 0.5}
    other = write(tmp_path, head + child.format("a", 0.5) + child.format("b", 0.25))
    with pytest.raises(ConfigError, match="declared twice, differently"):
        given(other)


def test_faults_of_children_are_told_with_file_and_line(tmp_path):
    text = COMPOSITE.replace("[lr, y]", "[lr, y, a, b]").replace("name: third", "nam: third")
    errors = refusals(children, tmp_path, text)
    first, second = errors
    assert (first.file, first.line, first.field) == (
        "exp.yaml",
        16,
        "children[0].parameters.required_args",
    )
    assert first.message == "missing required parameters: a, b"
    assert (second.file, second.line, second.field) == ("exp.yaml", 18, "children[2].nam")


def test_a_parent_s_constant_and_a_child_s_tunable_of_one_name(tmp_path):
    with pytest.raises(ConfigError, match="'extra' is an active tunable") as caught:
        children(tmp_path, COMPOSITE.replace("hidden: 5", "extra: 5").replace(THIRD, ""))
    assert str(caught.value.field).startswith("children[")


def test_a_file_that_is_its_own_child(tmp_path):
    file = write(tmp_path, "name: loop\nworkload: composite\nchildren: [exp.yaml]\n")
    with pytest.raises(UserError, match="nested too deep"):
        load(file)
    with pytest.raises(ConfigError, match=r"file 'none\.yaml': no such file") as caught:
        load(write(tmp_path, "name: x\nworkload: composite\nchildren: [none.yaml]\n"))
    assert (caught.value.line, caught.value.field) == (3, "children[0]")


def test_parameters_of_a_child_that_was_not_resolved():
    parameters = {"const_args": {"a": 1, "b": 2, "c": 3}, "required_args": ["d"]}
    child = ChildSpec(name="c", workload="mock", parameters=parameters)
    parent = {"a": "parent", "b": "parent", "d": 4, "e": 5, "trial_id": 2}
    assert child_parameters(parent, child) == {
        "a": "parent",
        "b": "parent",
        "c": 3,
        "d": 4,
        "trial_id": 2,
    }
    with pytest.raises(ConfigError, match="missing required parameter: d"):
        child_parameters({}, child)


# -- command line ---------------------------------------------------------------------------------


def test_the_option_tunable(tmp_path, capsys):
    file = str(write(tmp_path, f"parameters:\n  tunable_params: [net]\n{GROUP}"))
    assert main(["explain", file, "--json", "--tunable", "lr=0.25"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["values"]["parameters.tunable_values.lr"] == {"value": 0.25, "from": "--tunable"}
    assert shown["runs"][0]["parameters"] == {**ALWAYS, "lr": 0.25, "width": 64}
    assert main(["explain", file]) == 0
    assert "  lr = 0.5   " in capsys.readouterr().out


def test_a_secret_is_not_recorded_through_a_reference(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MYK", "hunter2-plain")
    file = write(
        tmp_path,
        'parameters: {const_args: {api_key: "${env:MYK}", note: "key is $api_key"}}\n',
    )
    with pytest.raises(ConfigError, match="is a secret"):
        load(file)
    assert main(["explain", str(file)]) == 2
    assert "hunter2-plain" not in "".join(capsys.readouterr())
