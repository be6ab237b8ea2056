"""Results of scripts: what is read from their output and their files, and what is none."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from drillyard.errors import (
    InfrastructureError,
    RunFailed,
)
from drillyard.mailbox.status import Cause
from drillyard.worker.endings import cause_of
from drillyard.workloads.commands import CommandContext
from drillyard.workloads.metrics import from_output
from tests.helpers.workload_bench import PATTERN, Bench, printing, say, script

PY = sys.executable


@pytest.mark.heavy
def test_results_from_output(tmp_path):
    """Every line that matches counts, the last of a name wins, and other lines do not matter."""
    lines = "score=1\nnoise\nscore=2.5\nlatency=3e-2\nname=fast"
    bench = printing(tmp_path, lines)
    assert bench.metrics() == {"score": 2.5, "latency": 0.03}
    again = Bench(tmp_path, script([say(lines)], results={"stdout": PATTERN}), attempt=2)
    data = json.loads(bench.read(again.train(), "results.json"))
    assert data["texts"] == {"name": "fast"}


@pytest.mark.heavy
def test_the_last_value_counts_however_long_the_output_is(tmp_path, monkeypatch):
    monkeypatch.setattr("drillyard.workloads.metrics.MAX_BYTES", 1000)
    lines = "\n".join(["score=1", *["x" * 90] * 20, "score=2"])
    bench = printing(tmp_path, lines)
    assert bench.metrics() == {"score": 2.0}


@pytest.mark.heavy
def test_a_line_of_output_that_is_too_long_is_refused(tmp_path, monkeypatch):
    """A part of it could look like a value."""
    monkeypatch.setattr("drillyard.workloads.metrics.MAX_BYTES", 1000)
    lines = "score=1\n" + "x" * 1000 + "y=7"
    bench = printing(tmp_path, lines)
    with pytest.raises(RunFailed, match="line 2 of the output"):
        bench.train()


@pytest.mark.parametrize(
    "text", ["a=1\r\na=2\r\n", "a=1\ra=2\r", "a=1\na=2", "\xff\na=1\na=2\n\n"]
)
def test_every_end_of_a_line_counts(tmp_path, text):
    output = tmp_path / "output.txt"
    output.write_bytes(text.encode("latin-1"))
    assert from_output(output, PATTERN) == {"a": 2.0}


@pytest.mark.heavy
@pytest.mark.parametrize("place", ["/dev/full", "."])
@pytest.mark.parametrize("code", [0, 3])
def test_output_that_cannot_be_kept_is_no_result(tmp_path, place, code):
    """A value that it ends with would be missing, and an older one would count."""
    if not Path(place).exists():
        pytest.skip("this system has no such device")
    commands = CommandContext(
        folder=tmp_path,
        environment=dict(os.environ),
        mark=str(tmp_path),
        stop=None,
        log=lambda line: None,
        output=Path(place),
    )
    with pytest.raises(InfrastructureError, match=r"output of .* cannot be kept") as caught:
        commands.run("run", [[PY, "-c", f"print('score=1'); exit({code})"]], None)
    assert cause_of(caught.value) is Cause.INFRASTRUCTURE


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("r.csv", "metric,value\nscore,0.5\nlatency,7\n", {"score": 0.5, "latency": 7}),
        ("r.csv", "score,0.5\nlatency,7\n", {"score": 0.5, "latency": 7}),
        ("r.csv", "\ufeffscore,latency\n0.5,7\n", {"score": 0.5, "latency": 7}),
        ("r.csv", "a,b,c\r\n1,2,3\r\n\r\n", {"a": 1, "b": 2, "c": 3}),
        ("r.csv", "score\n4\n", {"score": 4}),
        (
            "r.json",
            '{"score": 0.5, "cpu": {"user": 1}, "ok": true}',
            {"score": 0.5, "cpu/user": 1, "ok": 1},
        ),
        ("r.json", '[{"metric": "score", "value": 2}]', {"score": 2}),
    ],
)
def test_results_from_a_file(tmp_path, name, text, wanted):
    write = [PY, "-c", f"open({name!r}, 'w', newline='').write({text!r})"]
    bench = Bench(
        tmp_path,
        script([write, say("score=9\nother=1")], results={"file": name, "stdout": PATTERN}),
    )
    found = bench.metrics()
    assert found.pop("other") == 1.0, "the output counts where the file is silent"
    if "score" not in wanted:
        assert found.pop("score") == 9.0
    assert found == wanted, "the file beats the output"


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("r.csv", None, "was not written"),
        ("r.csv", "", "is empty"),
        ("r.csv", "metric,value\n", "no values"),
        ("r.csv", "a,b,c\n1,2,3\n4,5,6\n", "3 lines and no header"),
        ("r.csv", "a,b,c\n1,2\n", "do not match"),
        ("r.csv", "metric,value\na,1\na,2\n", "'a' twice"),
        ("r.csv", "metric,value\na,1,2\n", "is not `metric,value`"),
        ("r.json", "{", "is not JSON"),
        ("r.json", "[1, 2]", "holds no object"),
        ("r.json", "{}", "holds no value"),
        ("r.json", '{"score": NaN}', "is nan"),
        ("r.json", '{"score": 1e999}', "is inf"),
        ("r.json", '{"score": "fast"}', "no result is a number"),
    ],
)
def test_results_that_are_none(tmp_path, name, text, words):
    code = "pass" if text is None else f"open({name!r}, 'w').write({text!r})"
    bench = Bench(tmp_path, script([[PY, "-c", code]], results={"file": name}))
    with pytest.raises(RunFailed, match=words):
        bench.train()


@pytest.mark.heavy
def test_output_without_a_match_fails(tmp_path):
    bench = printing(tmp_path, "nothing")
    with pytest.raises(RunFailed, match=r"no match of script\.results\.stdout"):
        bench.train()


@pytest.mark.heavy
def test_a_results_file_that_came_with_the_code_does_not_count(tmp_path):
    bench = Bench(
        tmp_path,
        script([say("x")], results={"file": "r.csv"}),
        files={"r.csv": "metric,value\nscore,1\n"},
    )
    with pytest.raises(RunFailed, match="was not written"):
        bench.train()
