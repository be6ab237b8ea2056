"""The example of a model that is exported as a Java program: a real JVM, for each copy."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from drillyard.errors import RunFailed
from drillyard.simulators.make import make_env
from drillyard.simulators.replay_probe import probe
from drillyard.spec.learning import SimulatorSpec
from drillyard.system.import_path import importable
from tests.helpers.patience import PATIENCE_S

FOLDER = Path(__file__).parents[3] / "experiments" / "anylogic"
pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(shutil.which("javac") is None, reason="no JDK is installed"),
]


@pytest.fixture(scope="module")
def jar(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jar")
    build = [
        "javac",
        "-d",
        folder / "build",
        FOLDER / "Drillyard.java",
        FOLDER / "Experiment.java",
    ]
    subprocess.run(build, check=True, timeout=PATIENCE_S)
    pack = ["jar", "--create", "--file", folder / "model.jar", "-C", folder / "build", "."]
    subprocess.run(pack, check=True, timeout=PATIENCE_S)
    return folder


def spec(**more):
    given = YAML(typ="safe").load(FOLDER / "warehouse.yaml")["simulator"]
    given["args"] |= {"start_timeout_s": PATIENCE_S, "step_timeout_s": PATIENCE_S}
    given["agent"] |= more
    return SimulatorSpec.model_validate(given)


def test_a_java_program_repeats_an_episode_by_its_seed_and_can_be_replayed(jar):
    with importable(jar):
        env = make_env(spec())
        try:
            episodes = []
            for _ in range(2):
                env.reset(seed=3, options={"demand": 25.0, "stock": 1e1})
                action = np.array([0.1], np.float32)
                episodes.append([env.step(action)[4] for _ in range(60)])
            assert episodes[0] == episodes[1]
            assert len({info["state_stock"] for info in episodes[0]}) > 10
        finally:
            env.close()
        assert probe(spec()).difference == ""


def test_a_missing_input_ends_the_run_with_the_words_of_the_program(jar):
    with importable(jar):
        env = make_env(spec(acts={"orders": {"min": 0, "max": 60}}))
        try:
            env.reset(seed=1)
            with pytest.raises(RunFailed, match="the action 'order' is missing"):
                env.step(np.array([0.1], np.float32))
        finally:
            env.close()
