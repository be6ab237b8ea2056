"""Generated files: complete, commented, loadable; a person's edits are never touched."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import drillyard
from drillyard.authoring.generate import SCHEMA_COMMENT, generate
from drillyard.authoring.yaml_comments import Entry, complete, render, scalar
from drillyard.cli.main import build
from drillyard.documents.yaml_safe import parse_yaml
from drillyard.errors import ConfigError, UserError
from drillyard.spec.algorithms.argument_table import ARGUMENTS
from drillyard.spec.load import load
from drillyard.spec.precedence import leaves

PAIRS = [
    ("ppo", "CartPole-v1"),
    ("a2c", "cstr"),
    ("dqn", "CartPole-v1"),
    ("ddpg", "cstr"),
    ("td3", "cstr"),
    ("sac", "cstr"),
    ("ppo", "cstr"),
    ("dqn", "simple-adder"),
]


@pytest.mark.parametrize(("algorithm", "simulator"), PAIRS)
def test_complete_commented_and_valid(algorithm, simulator, tmp_path):
    made = generate(algorithm, simulator, tmp_path / "e.yaml")
    assert made.new and made.text == (tmp_path / "e.yaml").read_text()
    spec = load(tmp_path / "e.yaml").spec
    assert spec.learner.args.keys() >= ARGUMENTS[algorithm].keys()
    assert spec.simulator.id == simulator and spec.train.steps == 100_000
    lines = made.text.splitlines()
    assert lines[0] == SCHEMA_COMMENT
    for number, line in enumerate(lines):
        if re.match(r"\s*[\w-]+:( |$)", line):
            assert lines[number - 1].lstrip().startswith("#"), f"no comment at: {line}"
    assert "(environment steps)" in made.text or "environment steps" in made.text
    gamma = made.text.index(" gamma:")
    assert "Range: 0 to 1." in made.text[gamma - 120 : gamma]
    schema = tmp_path / ".drillyard" / "experiment.schema.json"
    assert "drillyard experiment" in schema.read_text()


def test_a_preset_is_written_out(tmp_path):
    """The same training as `preset: auto` of a short file, value by value."""
    generate("ppo", "CartPole-v1", tmp_path / "e.yaml", steps=5000)
    (tmp_path / "short.yaml").write_text(
        "name: s\nsimulator: {id: CartPole-v1}\nlearner: {algorithm: ppo}\ntrain: {steps: 5000}\n"
    )
    whole, short = (load(tmp_path / f"{n}.yaml").spec for n in ("e", "short"))
    assert whole.learner.preset is None and whole.train.n_envs == short.train.n_envs == 8
    assert short.learner.args.items() <= whole.learner.args.items()
    assert "From preset cartpole/ppo." in (tmp_path / "e.yaml").read_text()


EDITED = """\
# mine
name: "mine"   # keep

simulator: {id: CartPole-v1}
learner:
    # I like this one
    algorithm: ppo
    args:
          gamma: 0.90   # tuned by hand
          batch_size: 6_4
          policy_kwargs:
            net_arch: [32,
                       32]
    # end of the learner

# how long
train:
  steps: 5_000
seeds:
- 3
- 0x04
# the end
"""


def test_edits_and_comments_stay_letter_by_letter(tmp_path):
    path = tmp_path / "e.yaml"
    path.write_text(EDITED)
    before = load(path).spec
    made = generate("ppo", "CartPole-v1", path)
    after = path.read_text()
    remaining = iter(after.splitlines())
    assert all(any(line == other for other in remaining) for line in EDITED.splitlines())
    assert not made.new and "learner.args.n_epochs" in made.added and "budget" in made.added
    assert made.compact == ["simulator"]
    now = load(path).spec
    assert (now.name, now.seeds, now.learner.args["gamma"]) == ("mine", [3, 4], 0.9)
    # What the file left open means what it meant, the preset's values included.
    assert before.learner.args.items() <= now.learner.args.items()
    same = before.model_dump()
    same["learner"]["args"] = now.learner.args
    assert now.model_dump() == same
    again = generate("ppo", "CartPole-v1", path)
    assert path.read_text() == after and not again.added


@pytest.mark.parametrize(
    ("algorithm", "simulator", "out", "word"),
    [
        ("dqn", "CartPole-v1", "e.yaml", "is about 'ppo'"),
        ("ppo", "cstr", "e.yaml", "'CartPole-v1'"),
        ("ppox", "CartPole-v1", "n.yaml", "unknown learner"),
        ("ppo", "CartPole-v9", "n.yaml", "CartPole-v9"),
        ("dqn", "cstr", "n.yaml", "Discrete"),
        ("ppo", "CartPole-v1", "n.json", "not a YAML file"),
        ("ppo", "a b:c", "n.yaml", "module:Class"),
        ("ppo", "CartPole-v1", "no/folder/n.yaml", "no folder"),
    ],
)
def test_what_cannot_be_is_refused_and_writes_nothing(algorithm, simulator, out, word, tmp_path):
    (tmp_path / "e.yaml").write_text(EDITED)
    with pytest.raises(UserError) as error:
        generate(algorithm, simulator, tmp_path / out)
    assert word in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["e.yaml"]
    assert (tmp_path / "e.yaml").read_text() == EDITED


def test_a_file_that_is_wrong_is_left_alone(tmp_path):
    path = tmp_path / "e.yaml"
    path.write_text("name: e\nlearner: {algorithm: ppo\n")
    with pytest.raises(ConfigError):
        generate("ppo", "CartPole-v1", path)
    assert path.read_text() == "name: e\nlearner: {algorithm: ppo\n"


def test_the_command_and_the_function(tmp_path):
    words = ["generate", "--algorithm", "dqn", "--simulator", "CartPole-v1"]
    printed = CliRunner().invoke(build(words)[0], words)
    assert printed.exit_code == 0
    assert printed.output == drillyard.generate("dqn", "CartPole-v1").text.replace(
        "e.yaml", "FILE"
    )
    written = CliRunner().invoke(build(words)[0], [*words, "-o", str(tmp_path / "e.yaml")])
    assert "wrote" in written.output and load(tmp_path / "e.yaml").spec.name == "cartpole-v1-dqn"


WORDS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.floats(allow_nan=False),
    st.text("ab01yesno~#:{}[]\"'\\ -,.é|>&*!%@`", max_size=12),
)
VALUES = st.recursive(
    WORDS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("ab:# ", min_size=1, max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=300)
@given(VALUES)
def test_values_read_back_as_they_were(value):
    assert parse_yaml(f"key: {scalar(value)}\n", "text").value == {"key": value}


KEYS = st.sampled_from(["a", "b", "c", "d"])
TREES = st.recursive(
    st.integers(0, 99), lambda t: st.dictionaries(KEYS, t, min_size=1, max_size=4), max_leaves=8
)


def entries(tree):
    return [
        Entry(k, "why", entries=entries(v)) if isinstance(v, dict) else Entry(k, "why", v)
        for k, v in tree.items()
    ]


@settings(max_examples=300)
@given(
    st.dictionaries(KEYS, TREES, min_size=1),
    st.dictionaries(KEYS, TREES, min_size=1),
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from(["# x", "", "      # deep"]))),
)
def test_completing_any_file_keeps_its_lines_and_values(whole, mine, comments):
    lines = [line.replace("why", "mine") for line in render(entries(mine))]
    for at, comment in comments:
        lines.insert(min(at, len(lines)), comment)
    text = "\n".join(lines) + "\n"
    made = complete(text, entries(whole))
    after = parse_yaml(made.text, "after").value
    for path in leaves(parse_yaml(text, "before").value):
        a, b = mine, after
        for part in path:
            a, b = a[part], b[part]
        assert a == b
    assert complete(made.text, entries(whole)).text == made.text
    remaining = iter(made.text.splitlines())
    assert all(any(line == other for other in remaining) for line in lines)
