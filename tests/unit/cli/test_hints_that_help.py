"""Messages that once led newcomers the wrong way: what they say, and the way that they show."""

import sys
from pathlib import Path

import pytest

from drillyard.cli.main import main

BASE = "schema: 1\nname: x\nsimulator: {id: CartPole-v1}\nlearner: {algorithm: ppo}\n"
TRAIN = "train: {steps: 1000}\n"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "command", "code", "words"),
    [
        ("", "check CartPole-v9", 2, ["unknown simulator", "CartPole-v1"]),
        (BASE + TRAIN + "wandb: true\n", "check x.yaml", 2, ["x.yaml:6", "tracking.wandb"]),
        (
            "schema: 1\nname: x\nbench: {}\n" + TRAIN,
            "check x.yaml",
            2,
            ["x.yaml:3: bench.algorithms: is missing", "simulators: [CartPole-v1]"],
        ),
        (
            BASE.replace("-v1}", "-v1, lesson: {null: {values: [1]}}}") + TRAIN,
            "check x.yaml",
            2,
            ["x.yaml:3", "null as a key"],
        ),
        (BASE + "train: {steps: lots}\n", "check x.yaml", 2, ["x.yaml:5", "50k"]),
        (BASE + "train: {steps: 4 k}\n", "check x.yaml", 2, ["x.yaml:5", "50k"]),
        (BASE + TRAIN, "run x.yaml --step 10k", 2, ["no option --step,", "did you mean --steps"]),
        (BASE + TRAIN, "run x.yaml --seed 3", 2, ["--seed: 'seed' is", "did you mean --seeds"]),
        (BASE + TRAIN, "check x.yaml --on aws", 2, ["azure, dask, gcp", "no allowed value has"]),
        ("", "run cartpole", 2, ["'cartpole/ppo'"]),
    ],
    ids=[
        "simulator",
        "tracker",
        "bench",
        "lesson",
        "steps",
        "steps with a space",
        "--steps",
        "--seeds",
        "--on",
        "preset",
    ],
)
def test_a_mistake_leads_to_its_fix(text, command, code, words, capsys):
    Path("x.yaml").write_text(text)
    assert main(command.split()) == code
    said = capsys.readouterr().err
    assert "backend" not in said.partition("fix:")[2]
    for word in words:
        assert word in said


@pytest.mark.parametrize("command", ["run", "check", "bench"])
def test_a_missing_file_is_refused_at_once_with_similar_names_alone(command, capsys):
    for name in ("reactor.yaml", "x1.yaml", "mixture.yaml"):
        Path(name).write_text(BASE)
    assert main([command, "reactr.yaml"]) == 2
    said = capsys.readouterr().err
    assert "did you mean 'reactor.yaml'?" in said and "waiting" not in said
    assert main([command, "nofile.yaml"]) == 2
    said = capsys.readouterr().err
    assert "nofile.yaml: no such file" in said and "waiting" not in said
    assert "x1" not in said and "mixture" not in said and "has a similar name" in said


def test_a_wrong_value_of_an_option_is_not_taken_for_another_option(capsys):
    Path("x.yaml").write_text(BASE + TRAIN)
    assert main(["check", "x.yaml", "--tunable", "gamma"]) == 2
    assert "fix: for example lr=1e-4" in capsys.readouterr().err.replace("--tunable ", "")


def test_a_mistyped_preset_leads_to_presets(capsys):
    assert main(["check", "cartpole/pp"]) == 2
    assert "did you mean 'cartpole/ppo'" in capsys.readouterr().err


def test_bench_refuses_a_file_that_lists_nothing_before_it_checks(capsys):
    Path("x.yaml").write_text(BASE + TRAIN)
    assert main(["bench", "x.yaml"]) == 2
    said = capsys.readouterr().err
    assert "lists nothing to compare" in said and "waiting" not in said


def test_a_preset_gives_the_steps_that_the_file_leaves_out(capsys):
    Path("x.yaml").write_text(BASE)
    assert main(["explain", "x.yaml"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "train.steps 50000 preset cartpole/ppo" in said
    assert "note: preset cartpole/ppo sets the values" in said and "warning" not in said
    Path("x.yaml").write_text(BASE + "train: {episodes: 20}\n")
    assert main(["explain", "x.yaml"]) == 0
    assert "train.steps null default" in " ".join(capsys.readouterr().out.split())


def test_a_gymnasium_class_needs_no_package(place, capsys, monkeypatch):
    (place / "gym_plant.py").write_text(
        "import gymnasium\nclass Plant(gymnasium.Env):\n    def step(self, action): ...\n"
    )
    assert main(["new", "simulator", "plant", "--from", "gym_plant.py"]) == 2
    assert "simulator: {id: 'gym_plant:Plant'}" in capsys.readouterr().err
    sys.modules.pop("gym_plant", None)


@pytest.mark.parametrize("text", ['{"name": 3', '{"name": 3}'], ids=["cut", "wrong"])
def test_a_damaged_record_is_named_in_plain_words(text, place, capsys):
    folder = place / "drillyard-runs" / "hurt"
    folder.mkdir(parents=True)
    (folder / "experiment.json").write_text(text)
    # The same command would end in the same way, so this is not the code for "try again".
    assert main(["status", "hurt"]) == 1
    said = capsys.readouterr().err
    assert "hurt/experiment.json" in said and "damaged" in said and "fix:" in said
    assert "pydantic" not in said and "validation error" not in said


@pytest.mark.parametrize("text", ["lots of words " * 1000, "x: " + "y" * 5000, "- " + "z" * 5000])
def test_a_long_value_is_cut(text, capsys):
    Path("x.yaml").write_text(text)
    assert main(["check", "x.yaml"]) == 2
    assert max(map(len, capsys.readouterr().err.splitlines())) < 500
