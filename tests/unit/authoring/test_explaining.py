"""`drillyard explain`: settings of the backend and parameters of children, with their origins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from drillyard import registry
from drillyard.authoring import explain
from drillyard.backend.settings import resolve as settings
from drillyard.cli.main import main
from drillyard.errors import ConfigError
from drillyard.spec.load import load

CSTR = Path(__file__).parents[3] / "experiments" / "cstr.yaml"


class StormyConfig(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="DRILLYARD_STORMY_", extra="forbid")

    project: str = Field(description="Who pays.")
    zone: str = Field("east", description="Where.")
    size: int = Field(4, description="Cores.")
    disk: int = Field(10, description="GB.")
    image: str = Field("plain", description="What boots.")
    labels: dict[str, str] = Field(default_factory=dict, description="On every machine.")
    token: SecretStr | None = Field(None, description="For the API.")


class Stormy:
    kind = "stormy"
    traits: ClassVar = frozenset()
    Config: ClassVar = StormyConfig


class Blocks:
    """In place of Prefect; tests/flows has the real one."""

    def settings(self, kind, name):
        if name != "prod":
            raise ConfigError(f"no block {name}")
        return {"size": 16, "zone": "block-zone", "token": "hush-hush-hush"}, {"token"}


FILE = """\
name: weather
workload: mock
backend: stormy/prod
backends: {stormy: {zone: west, labels: {team: rain}}}
tracking: {mlflow: null}
"""
FAMILY = """\
name: family
workload: composite
run_name: "{name}-{seed}"
parameters:
  const_args: {size: 5, own: "$experiment_id/$trial_id"}
  tunables: {knobs: {params: {gain: {type: float, range: [0, 9], default: 1.5}}}}
  tunable_params: [knobs]
children:
  - name: first
    workload: mock
    parameters:
      required_args: [size, gain]
      const_args: {colour: red}
      tunables: {deep: {params: {depth: {type: int, range: [1, 9], default: 2}}}}
      tunable_params: [deep]
  - name: second
    workload: composite
    children:
      - {name: inner, workload: mock, parameters: {const_args: {colour: blue}}}
tracking: {mlflow: null}
seeds: [0, 4]
"""


@pytest.fixture(autouse=True)
def stormy(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    monkeypatch.setattr(registry, "_registrants", dict(registry._registrants))
    registry.register("backends", "stormy", f"{__name__}:Stormy")
    monkeypatch.setattr(settings, "blocks", lambda shown: Blocks())
    monkeypatch.setenv("DRILLYARD_CONFIG_DIR", str(tmp_path))
    (tmp_path / "config.yaml").write_text("backends: {stormy: {project: p, disk: 1, image: i}}\n")
    (tmp_path / "weather.yaml").write_text(FILE)
    (tmp_path / "family.yaml").write_text(FAMILY)
    monkeypatch.setenv("DRILLYARD_STORMY_DISK", "20")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_source_of_a_setting_is_named(stormy, capsys):
    words = [
        "explain",
        "weather.yaml",
        "--set",
        "backends.stormy.size=32",
        "--globals",
        "{backends: {stormy: {labels: {team: snow}}}}",
    ]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["backend"]
    assert found["name"] == "stormy/prod" and found["problem"] is None
    assert {row["name"]: (row["value"], row["from"]) for row in found["settings"]} == {
        "size": (32, "--set"),
        "labels": ({"team": "snow"}, "--globals:1"),
        "zone": ("west", "weather.yaml:4"),
        "token": ("block:stormy/prod#token", "Prefect block prod"),
        "disk": ("20", "DRILLYARD_STORMY_DISK"),
        "project": ("p", str(stormy / "config.yaml")),
        "image": ("i", str(stormy / "config.yaml")),
    }
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "settings of stormy/prod:" in shown and "hush-hush" not in shown
    assert "  size = 32" in shown


def test_what_is_missing_or_wrong_is_shown_and_the_rest_too(stormy, capsys):
    (stormy / "config.yaml").unlink()
    assert main(["explain", "weather.yaml"]) == 0
    shown = capsys.readouterr().out
    assert "project = -" in shown and "missing" in shown and "zone = west" in shown
    assert main(["explain", "weather.yaml", "--set", "backends.stormy.sise=3"]) == 0
    shown = capsys.readouterr().out
    assert "cannot be opened" in shown and "sise" in shown and "zone = west" in shown
    assert main(["explain", "weather.yaml", "--set", "backend=stormy/prad"]) == 0
    assert "no block prad" in capsys.readouterr().out


def test_the_tree_tells_what_each_child_is_given_and_from_where(capsys):
    loaded = load("family.yaml", values={"size": "6"}, tunables=["depth=7"])
    top = explain.tree(loaded, explain.runs(loaded)[0]["parameters"])
    first, second = top["children"]
    inner = second["children"][0]

    def of(node):
        return {n: (p["value"], p["from"]) for n, p in node["parameters"].items()}

    always = {
        "experiment_id": ("family", "family.yaml:1"),
        "trial_id": (1, "the trial"),
        "trial_runner_id": (1, "the trial"),
    }
    gain = "family.yaml:6 through the default of knobs.gain"
    assert of(top)["own"][0] == "family/1" and "${trial_id}" in of(top)["own"][1]
    assert {n: found for n, found in of(top).items() if n != "own"} == {
        **always,
        "size": (6, "--size"),
        "gain": (1.5, gain),
        "depth": (7, "--tunable"),
    }
    assert of(first) == {
        **always,
        "size": (6, "--size, from family"),
        "gain": (1.5, f"{gain}, from family"),
        "colour": ("red", "family.yaml:13"),
        "depth": (7, "--tunable, from family"),
    }
    assert of(inner) == {**always, "colour": ("blue", "family.yaml:19")}

    assert main(["explain", "family.yaml"]) == 0
    shown = capsys.readouterr().out
    assert "\n  - first (mock)\n" in shown and "\n      - inner (mock)\n" in shown
    assert "2 runs (family-0, family-4)" in shown
    assert "children[0].simulator" not in shown and "defaults of children are hidden" in shown
    assert main(["explain", "family.yaml", "--all"]) == 0
    assert "children[0].simulator" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("n_envs", "said"),
    [(4, "auto: the numbers of one-by-one"), (16, "auto: the numbers of vectorised")],
)
def test_what_auto_comes_to_is_said(n_envs, said):
    """It changes numbers, and so no measurement may decide it."""
    loaded = load(CSTR, sets=[f"train.n_envs={n_envs}"])
    rows = {path: value for path, value, _ in explain.values(loaded)}
    assert rows["train.copies"] == said
    loaded = load(CSTR, sets=["train.copies=processes"])
    rows = {path: value for path, value, _ in explain.values(loaded)}
    assert rows["train.copies"] == "processes"


@pytest.mark.parametrize(
    ("observation", "path", "said"),
    [
        ("dict-of-tuple", "simulator.wrappers", "FlattenSpaces: Dict('a/0': "),
        ("image-7", "learner.policy", "CnnPolicy with three convolutions of 3x3 (SmallCnn)"),
    ],
)
def test_what_is_added_for_the_learner_is_named(tmp_path, observation, path, said):
    file = tmp_path / "odd.yaml"
    file.write_text(
        "name: odd\n"
        "simulator: {id: 'tests.helpers.odd_worlds:World', "
        f"args: {{observation: {observation}}}}}\n"
        "learner: {algorithm: ppo, preset: null}\n"
        "train: {steps: 64}\n"
    )
    rows = {path: value for path, value, _ in explain.values(load(file))}
    assert str(rows[path]).startswith(said)


def test_every_backend_of_a_list_has_its_settings(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("turns.yaml").write_text(
        "name: turns\nworkload: mock\nbackend: [local, ssh]\nbackends: {ssh: {hosts: [den]}}\n"
    )
    assert main(["explain", "turns.yaml", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["backend"]["name"] == "local" and shown["runs"][0]["backend"] == "local, ssh"
    (other,) = shown["elsewhere"]
    assert other["name"] == "ssh" and other["problem"] is None
    (hosts,) = (row for row in other["settings"] if row["name"] == "hosts")
    assert hosts["value"] == ["den"] and "turns.yaml" in hosts["from"]
    assert main(["explain", "turns.yaml"]) == 0
    assert "settings of ssh:" in capsys.readouterr().out


def test_each_setting_that_changes_the_numbers_is_shown_once(tmp_path):
    file = tmp_path / "x.yaml"
    text = (
        "name: x\nsimulator: {id: CartPole-v1}\nlearner: {algorithm: ppo%s}\ntrain: {steps: 1k}\n"
    )
    wanted = ("learner.engine", "resources.precision", "resources.runs_per_process")
    for more, engine in (("", "sb3"), (", engine: jax", "jax")):
        file.write_text(text % more)
        rows = [row for row in explain.values(load(file)) if row[0] in wanted]
        assert sorted(row[0] for row in rows) == sorted(wanted)
        assert {row[0]: row[1] for row in rows}["learner.engine"] == engine
