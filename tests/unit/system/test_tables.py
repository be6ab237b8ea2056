"""One table in each of its formats."""

from __future__ import annotations

import io

from drillyard.system.tables import Table, csv_of, csv_of_rows, rows_grid

ROWS = [("one", 1234, "x|y"), ("two", 7, None)]


def table() -> Table[tuple[str, int, str | None]]:
    found = Table("machines", ROWS)
    found.text("name", lambda row: row[0])
    found.number("of all steps", lambda row: row[1])
    return found.text("note", lambda row: row[2], spare=True)


def test_plain_text_lines_up():
    assert table().plain().splitlines() == [
        "machines",
        "name  of all steps  note",
        "----  ------------  ----",
        "one          1,234  x|y",
        "two              7  -",
    ]


def test_markdown_escapes_what_would_end_a_cell():
    assert table().markdown().splitlines()[1:3] == [
        "| --- | --- | --- |",
        "| one | 1,234 | x\\|y |",
    ]


def test_a_narrow_terminal_goes_without_columns_that_say_nothing():
    wide = table().text("empty", lambda _: "").number("nothing", lambda _: None)
    assert wide.within(80) is wide
    assert wide.within(24).header == ("name", "of all steps", "note")
    assert wide.within(18).header == ("name", "of all steps")
    assert wide.rows[1] == ("two", "7", "-", "", "-")


def test_a_rich_table_takes_names_as_text():
    from rich.console import Console

    out = io.StringIO()
    grid = rows_grid("", ("policy", "mean"), [("[red]agent[/]", "1")])
    Console(file=out, width=60).print(grid.rich())
    assert "[red]agent[/]" in out.getvalue()


def test_the_first_rows_say_how_many_are_left():
    assert table().first(2).rows == table().rows
    assert table().first(1).rows == [("one", "1,234", "x|y"), ("… 1 more", "", "")]


def test_csv_has_full_precision_and_no_formulas():
    text = csv_of(ROWS, {"name": lambda row: f"={row[0]}", "third": lambda row: row[1] / 3})
    assert text.splitlines()[:2] == ["name,third", "'=one,411.3333333333333"]
    rows = csv_of_rows([{"a": None, "b": [1, {"c": 2}]}, {"d": -1}])
    assert rows.splitlines() == ["a,b,d", ',"[1, {""c"": 2}]",', ",,-1"]


def test_a_negative_number_that_is_a_text_stays_a_number_in_csv():
    rows = csv_of_rows([{"a": "-10", "b": "+1e-3", "c": "-1+1", "d": "-Infinity"}])
    assert rows.splitlines()[1] == "-10,+1e-3,'-1+1,-Infinity"


def test_a_table_without_rows_has_its_headings():
    assert rows_grid("none", ("a", "b"), []).plain() == "none\na  b\n-  -"
