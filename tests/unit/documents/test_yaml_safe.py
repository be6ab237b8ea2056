"""YAML and JSON with comments: values, lines, and what is refused before it is built."""

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from drillyard.documents.files import MAX_BYTES, read_document
from drillyard.documents.json_comments import parse_json
from drillyard.documents.scalars import resolve
from drillyard.documents.yaml_safe import parse_yaml, typed
from drillyard.errors import ConfigError, UserError
from tests.helpers.refusals import refusals


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        ("3.0e-4", 0.0003),
        ("200_000", 200_000),
        ("-5", -5),
        ("+7", 7),
        (".5", 0.5),
        ("5.", 5.0),
        ("0x1F", 31),
        ("0o17", 15),
        ("0", 0),
        ("0.10", 0.1),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("e5", "e5"),
        ("1.2.3", "1.2.3"),
        ("2024-01-01", "2024-01-01"),
        ("nan", "nan"),
        ("cstr", "cstr"),
        ("1_", "1_"),
        ("--1", "--1"),
        (".", "."),
        ("+.e3", "+.e3"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_a_plain_word_has_one_type(word, value):
    found = resolve(word)
    assert found == value
    assert type(found) is type(value)


def test_every_value_has_its_line():
    document = parse_yaml(
        "a: 1\nb:\n  c: [x, 'y']\n  d: &r {e: 1e-3}\nf: *r\ng:\n  <<: *r\n  h: 2\n", "f.yaml"
    )
    assert document.value == {
        "a": 1,
        "b": {"c": ["x", "y"], "d": {"e": 0.001}},
        "f": {"e": 0.001},
        "g": {"e": 0.001, "h": 2},
    }
    line = document.line
    assert [
        line(("a",)),
        line(("b", "c", 1)),
        line(("b", "d", "e")),
        line(("f",)),
        line(("g", "h")),
    ] == [1, 3, 4, 5, 8]
    assert document.marks[("b", "d", "e")].raw == "1e-3"
    assert line(("g", "nothing", "there")) == 6


def test_aliases_are_copies():
    value = parse_yaml("a: &x {k: [1]}\nb: *x\n", "f").value
    value["b"]["k"].append(2)
    assert value["a"] == {"k": [1]}


def test_quoted_text_stays_text():
    value = parse_yaml("a: 'NO'\nb: \"22:30\"\nc: '010'\nd: '1e-3'\n", "f").value
    assert value == {"a": "NO", "b": "22:30", "c": "010", "d": "1e-3"}


def test_all_traps_are_told_at_once():
    errors = refusals(parse_yaml, "a: NO\nb: [1, on]\nc: 22:30\na: 2\n", "f.yaml")
    assert [(e.line, e.field) for e in errors] == [
        (1, "a"),
        (2, "b[1]"),
        (3, "c"),
        (4, "a"),
    ]


@pytest.mark.parametrize(
    "text", ["!!str x", "a: !!python/name:os.system", "a: !mine {b: 1}", "!!set {a, b}", "- !x 1"]
)
def test_tags_are_refused_before_anything_is_built(text):
    with pytest.raises(ConfigError, match=r"tag .* is not allowed"):
        parse_yaml(text, "f.yaml")


def test_alias_bomb_is_refused_quickly():
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
    )
    assert len(bomb) < 600
    began = time.perf_counter()
    with pytest.raises(ConfigError, match="aliases expanded"):
        parse_yaml(bomb, "bomb.yaml")
    print(f"bomb: {time.perf_counter() - began:.3f} s")


@pytest.mark.parametrize("opener", ["[", "{a: ", "- "])
def test_depth(opener):
    with pytest.raises(ConfigError, match="nested too deeply"):
        parse_yaml(opener * 3000, "deep.yaml")
    with pytest.raises(ConfigError, match="nested too deeply"):
        parse_json("[" * 3000, "deep.json")


def test_json_with_comments_and_lines():
    document = parse_json(
        '// about\n{"a": 1, /* no // comment */ \'b\': [1, 2,],\n\tc: .5,\n"u": "x//y", '
        '"d": {"e": 0x10}}',
        "f.json",
    )
    assert document.value == {"a": 1, "b": [1, 2], "c": 0.5, "u": "x//y", "d": {"e": 16}}
    assert [document.line((k,)) for k in "abcu"] == [2, 2, 3, 4]


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', "{a: 1, a: 2}", '{"x": {"b": 1, "b": 1}}'])
def test_json_duplicate_keys(text):
    with pytest.raises(ConfigError, match="twice"):
        parse_json(text, "f.json")


def test_size(tmp_path):
    path = tmp_path / "big.yaml"
    path.write_text("# " + "x" * MAX_BYTES)
    with pytest.raises(ConfigError, match="bytes long"):
        read_document(path)


def test_command_line_words():
    assert typed("5") == 5
    assert typed("1e-3") == 0.001
    assert typed("[1, 2]") == [1, 2]
    assert typed("{a: 1}") == {"a": 1}
    assert typed("NO") == "NO"
    assert typed("22:30") == "22:30"
    assert typed("'5'") == "5"
    assert typed("null") is None


PIECES = st.sampled_from(
    [
        "a",
        "b: ",
        ": ",
        "- ",
        "\n",
        "  ",
        "\t",
        "[",
        "]",
        "{",
        "}",
        ",",
        "&x ",
        "*x",
        "'",
        '"',
        "#",
        "!!",
        "!a ",
        "|",
        ">",
        "?",
        "<<: ",
        "1e3",
        "NO",
        "010",
        "%",
        "@",
        "\\",
        "---",
        "...",
        "\0",
        "\u202e",
        "é",
        "𝄞",
        "//",
        "/*",
        "*/",
        "0x",
        "null",
        ".nan",
    ]
)


@settings(max_examples=400)
@given(st.lists(PIECES, max_size=40).map("".join) | st.text(max_size=80))
@example("%YAML 9.9\n---\na: 1")
@example("a: |\n  x\n b: 1")
@example('{"a": "\\ud800"}')
@example("? ? ? a")
@pytest.mark.heavy
def test_no_text_breaks_the_reader(text):
    for parse in (parse_yaml, parse_json):
        try:
            parse(text, "fuzz")
        except UserError as error:
            assert str(error)
