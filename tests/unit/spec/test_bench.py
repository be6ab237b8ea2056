"""The `bench:` section: every pair once, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from drillyard.checks.numbers import plan
from drillyard.cli.main import main
from drillyard.errors import ConfigError, ConfigErrors
from drillyard.spec.load import load
from drillyard_flows.request import Request, loaded_of
from tests.helpers.refusals import refusals

FILE = """\
schema: 1
name: b
bench:
  {bench}
train: {{steps: 4096, n_envs: 8}}
seeds: [1, 2]
"""
BENCH = "algorithms: [ppo, a2c]\n  simulators: [CartPole-v1]"


def written(folder: Path, bench: str) -> Path:
    path = folder / "b.yaml"
    path.write_text(FILE.format(bench=bench))
    return path


def test_every_algorithm_on_every_simulator(tmp_path):
    file = written(
        tmp_path,
        "algorithms: [ppo, {algorithm: a2c, args: {gamma: 0.9}}]\n"
        "  simulators: [CartPole-v1, MountainCarContinuous-v0]",
    )
    spec = load(file).spec
    assert spec.study is not None
    assert spec.study.chooser == "list"
    assert [e["label"] for e in spec.study.experiments] == [
        "ppo on CartPole-v1",
        "a2c on CartPole-v1",
        "ppo on MountainCarContinuous-v0",
        "a2c on MountainCarContinuous-v0",
    ]
    last = spec.study.experiments[3]
    assert last["simulator"]["id"] == "MountainCarContinuous-v0"
    assert last["learner"]["args"]["gamma"] == 0.9


@pytest.mark.parametrize(
    ("bench", "said"),
    [
        ("algorithms: []", "bench.algorithms"),
        ("algos: [ppo]", "bench.algos"),
        ("algorithms: [ppo]", "bench.simulators"),
        ("{algorithms: [ppo, 3], simulators: [CartPole-v1]}", "bench.algorithms[1]"),
        ("{algorithms: [ppo, ppo], simulators: [CartPole-v1]}", "each one once"),
    ],
)
def test_refused_with_its_place(tmp_path, bench, said):
    with pytest.raises((ConfigError, ConfigErrors)) as caught:
        load(written(tmp_path, bench))
    text = str(caught.value)
    assert said in text
    assert "b.yaml" in text
    assert caught.value.hint


def test_all_mistakes_at_once(tmp_path):
    bench = "{algos: [x], algorithms: [ppo, 3, ppo], simulators: [{name: CartPole-v1}]}"
    errors = refusals(load, written(tmp_path, bench))
    assert [e.field for e in errors] == [
        "bench.algos",
        "bench.algorithms[1]",
        "bench.algorithms[2]",
        "bench.simulators[0]",
    ]


def test_mistakes_inside_of_every_pair_are_told_with_those_of_the_file(tmp_path):
    file = written(
        tmp_path,
        "algorithms:\n    - ppoo\n    - {algorithm: a2c, args: {gama: 0.9}}\n"
        "    - {algorithm: dqn, args: {gamma: 3}}\n    - 5\n"
        "  simulators: [CartPole-v1, {id: cstr, wrapers: []}]",
    )
    file.write_text(file.read_text().replace("n_envs", "n_evs"))
    errors = refusals(load, file)
    assert [(e.line, e.field) for e in errors] == [
        (5, "bench.algorithms[0]"),
        (6, "bench.algorithms[1].args.gama"),
        (7, "bench.algorithms[2].args.gamma"),
        (8, "bench.algorithms[3]"),
        (9, "bench.simulators[1].wrapers"),
        (10, "train.n_evs"),
    ]


def test_an_algorithm_takes_no_argument_of_another_one(tmp_path):
    file = written(
        tmp_path,
        "algorithms:\n    - {algorithm: ppo, args: {gamma: 0.5}}\n"
        "    - {algorithm: ppo, args: {n_steps: 64}}\n    - ppo\n  simulators: [CartPole-v1]",
    )
    study = load(file).spec.study
    assert study is not None
    # The first one is the file's, and so only what differs from it is in the list.
    args = [e.get("learner", {}).get("args", {}) for e in study.experiments]
    assert [a.get("gamma") for a in args] == [None, 0.98, 0.98]
    assert [a.get("n_steps") for a in args][1:] != [64, 64] and args[1]["n_steps"] == 64
    assert [e["label"] for e in study.experiments] == [
        f"ppo ({number}) on CartPole-v1" for number in (1, 2, 3)
    ]


def test_steps_and_seeds_of_the_command_line(tmp_path, monkeypatch):
    from drillyard_flows import running

    file = written(tmp_path, BENCH)
    asked: list[Request] = []
    monkeypatch.setattr(running, "bench_file", lambda request, as_json: asked.append(request))
    assert main(["bench", str(file), "--steps", "2k", "--seeds", "3"]) == 0
    spec = loaded_of(asked[0]).spec
    assert spec.seeds == [1, 2, 3]
    assert spec.train is not None and spec.train.steps == 2000


def test_each_value_of_each_algorithm_has_its_own_origin(tmp_path):
    loaded = load(written(tmp_path, BENCH))
    origins = loaded.provenance
    assert origins["learner.args.n_steps"] == "preset cartpole/ppo"
    assert origins["study.experiments[1].learner.args.n_steps"] == "preset cartpole/a2c"
    assert origins["study.experiments[1].learner.callbacks"] == "default"
    presets = [f.message.split()[1] for f in loaded.findings if f.subject == "preset"]
    assert presets == ["cartpole/ppo", "cartpole/a2c"]


def test_the_checks_count_the_runs_of_all_algorithms(tmp_path):
    path = written(tmp_path, BENCH.replace("a2c", "a2c, dqn"))
    path.write_text(path.read_text().replace(", n_envs: 8", ""))
    findings = plan(load(path))
    assert [f.message for f in findings if f.subject == "budget"] == [
        "4 runs of 4,096 steps, 8 copies of the simulator each",
        "2 runs of 4,096 steps, 1 copy of the simulator each",
    ]


def test_a_number_of_seeds_in_a_file_leads_to_the_list_and_the_option(tmp_path):
    path = tmp_path / "b.yaml"
    path.write_text(FILE.format(bench=BENCH).replace("[1, 2]", "10"))
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert "seeds: [1, 2, 3]" in (caught.value.hint or "")
    assert "`drillyard run FILE --seeds 10` means 1 to 10" in (caught.value.hint or "")


def test_explain_counts_the_runs_of_all_algorithms(tmp_path, capsys):
    assert main(["explain", str(written(tmp_path, BENCH))]) == 0
    assert "\n4 runs (t0001-s1, t0001-s2" in capsys.readouterr().out
