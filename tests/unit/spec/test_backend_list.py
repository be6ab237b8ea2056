"""``backend: [a, b]``: what is read, and what is refused before anything is created."""

from __future__ import annotations

from pathlib import Path

import pytest

from drillyard.runs.identity import parts
from drillyard.spec.load import Loaded, load
from tests.helpers.refusals import refusals

FILE = """\
name: turns
workload: mock
{backend}
"""


def loaded(folder: Path, backend: str, *sets: str) -> Loaded:
    file = folder / "turns.yaml"
    file.write_text(FILE.format(backend=backend))
    return load(file, sets=sets)


def test_a_list_names_places_in_turn_and_a_single_one_stays_what_it_was(tmp_path):
    spec = loaded(tmp_path, "backend: [local, dask]").spec
    assert spec.places == ("local", "dask") and spec.where == "local, dask"
    assert spec.on_place("dask").places == ("dask",)
    single = loaded(tmp_path, "backend: [local]").spec
    assert single == loaded(tmp_path, "backend: local").spec
    assert "elsewhere" not in single.model_dump(mode="json")
    again = type(spec).model_validate(spec.model_dump(mode="json", by_alias=True))
    assert again == spec


def test_a_place_of_the_command_line_replaces_the_list(tmp_path):
    spec = loaded(tmp_path, "backend: [local, dask]", "backend=dask").spec
    assert spec.places == ("dask",)
    spec = loaded(tmp_path, "backend: local", "backend=[dask, local]").spec
    assert spec.places == ("dask", "local")


def test_where_it_runs_changes_no_result(tmp_path):
    one, two = (loaded(tmp_path, f"backend: {text}").spec for text in ("local", "[dask, local]"))
    assert parts(one, None) == parts(two, None)


@pytest.mark.parametrize(
    ("text", "field", "line", "message", "value", "fix"),
    [
        ("backend: []", "backend", 3, "is empty", "[]", "at least one backend"),
        ("backend:\n  - local\n  - local", "backend[1]", 5, "twice", "local", "[local]"),
        ("backend:\n  - local\n  - mars/x", "backend[1]", 5, "unknown backend", "mars/x", None),
        ("backend:\n  - local\n  - 7", "backend[1]", 5, "not the name", "7", "kind/block-name"),
        ("backend: [local]\nelsewhere: [dask]", "elsewhere", 4, "as well", "dask", "alone"),
    ],
)
def test_a_wrong_list_is_refused_with_its_line_and_a_fix(
    tmp_path, text, field, line, message, value, fix
):
    error = refusals(loaded, tmp_path, text)[0]
    assert (error.file, error.line, error.field) == ("turns.yaml", line, field)
    assert message in error.message and value in str(error.value)
    assert error.allowed
    assert fix is None or fix in str(error.hint)
    assert error.hint


def test_several_mistakes_are_told_at_once(tmp_path):
    errors = refusals(loaded, tmp_path, "backend: [mars, local, venus]")
    assert [e.field for e in errors] == ["backend[0]", "backend[2]"]
