"""The `bench:` section: every pair once, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from drillyard.errors import ConfigError, ConfigErrors
from drillyard.spec.load import load

FILE = """\
schema: 1
name: b
bench:
  {bench}
train: {{steps: 4096, n_envs: 8}}
seeds: [1, 2]
"""


def written(folder: Path, bench: str) -> Path:
    path = folder / "b.yaml"
    path.write_text(FILE.format(bench=bench))
    return path


def test_every_algorithm_on_every_simulator(tmp_path: Path) -> None:
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
def test_refused_with_its_place(tmp_path: Path, bench: str, said: str) -> None:
    with pytest.raises((ConfigError, ConfigErrors)) as caught:
        load(written(tmp_path, bench))
    text = str(caught.value)
    assert said in text
    assert "b.yaml" in text
    assert caught.value.hint


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    bench = "{algos: [x], algorithms: [ppo, 3, ppo], simulators: [{name: CartPole-v1}]}"
    with pytest.raises(ConfigErrors) as caught:
        load(written(tmp_path, bench))
    assert [e.field for e in caught.value.errors] == [
        "bench.algos",
        "bench.algorithms[1]",
        "bench.algorithms[2]",
        "bench.simulators[0]",
    ]
