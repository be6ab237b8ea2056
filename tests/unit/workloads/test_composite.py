"""The workload `composite`: order, merging, failures, teardown, what children are given."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from drillyard.errors import ConfigError, RunFailed
from drillyard.mailbox.records import Phase
from drillyard.metrics.streams import read_stream
from drillyard.spec.load import load
from tests.helpers.workload_bench import Bench

PY = sys.executable
PATTERN = r"^(\w+)=(\S+)$"
NOTE = "import os, sys; open('notes', 'a').write(sys.argv[1] + ' ')"


def note(word: str) -> list[str]:
    return [PY, "-c", NOTE, word]


def part(
    name: str,
    run: list[Any] | None = None,
    *,
    prefix: Any = False,
    parameters: Any = None,
    **more: Any,
) -> dict[str, Any]:
    before, after = [note(f"+{name}")], [note(f"-{name}")]
    stages = {"setup": before, "run": run or [note(name)], "teardown": after}
    return {
        "name": name,
        "workload": "script",
        "prefix": prefix,
        "script": stages | more,
        "parameters": {"per_run": [], **(parameters or {})},
    }


def composite(*children: dict[str, Any], **const_args: Any) -> dict[str, Any]:
    parameters = {"const_args": const_args}
    return {"workload": "composite", "children": list(children), "parameters": parameters}


def say(text: str) -> list[str]:
    return [PY, "-c", f"print({text!r})"]


def notes(bench: Bench) -> list[str]:
    return (bench.work / "notes").read_text().split()


@pytest.mark.heavy
def test_in_order_and_torn_down_in_reverse(tmp_path):
    bench = Bench(tmp_path, composite(part("a"), part("b"), part("c")))
    bench.train()
    assert notes(bench) == ["+a", "+b", "+c", "a", "b", "c", "-c", "-b", "-a"]


@pytest.mark.heavy
def test_the_first_failed_run_stops_it(tmp_path):
    bench = Bench(tmp_path, composite(part("a"), part("b", [["false"]]), part("c")))
    with pytest.raises(RunFailed, match="child 'b': `false` in `run` ended with code 1"):
        bench.train()
    assert notes(bench) == ["+a", "+b", "+c", "a", "-c", "-b", "-a"]


@pytest.mark.heavy
def test_only_what_was_set_up_is_torn_down(tmp_path):
    bench = Bench(tmp_path, composite(part("a"), part("b", setup=[["false"]]), part("c")))
    with pytest.raises(RunFailed, match="child 'b': `false` in `setup`"):
        bench.train()
    assert notes(bench) == ["+a", "-b", "-a"]


@pytest.mark.heavy
def test_a_failed_teardown_does_not_keep_the_others_from_theirs(tmp_path):
    bench = Bench(tmp_path, composite(part("a"), part("b", teardown=[["false"]])))
    with pytest.raises(RunFailed, match="child 'b'"):
        bench.train()
    assert notes(bench)[-1] == "-a"


@pytest.mark.heavy
def test_metrics_are_merged_and_prefixed(tmp_path):
    stdout = {"stdout": PATTERN}
    bench = Bench(
        tmp_path,
        composite(
            part("a", [say("score=1\nsize=2")], results=stdout),
            part("b", [say("score=3\nword=x")], results=stdout, prefix=True),
            part("c", [say("score=4")], results=stdout, prefix="last_"),
            {"name": "m", "workload": "mock", "mock": {"metrics": ["mocked"]}},
        ),
    )
    merged = {"score": 1.0, "size": 2.0, "b/score": 3.0, "last_score": 4.0, "mocked": 0.0}
    assert bench.metrics() == merged
    names = set(bench.mailbox.manifest(bench.mailbox.accepted("t0001-s1", Phase.TRAIN)).files)
    assert "children/b/results.json" in names


@pytest.mark.heavy
def test_a_clash_is_an_error_and_what_follows_is_not_run(tmp_path):
    stdout = {"stdout": PATTERN}
    bench = Bench(
        tmp_path,
        composite(
            part("a", [say("score=1")], results=stdout),
            part("b", [say("score=1")], results=stdout),
            part("c"),
        ),
    )
    with pytest.raises(RunFailed, match="'a' and 'b' both have the metric 'score'") as caught:
        bench.train()
    assert "prefix: true" in (caught.value.hint or "")
    assert notes(bench) == ["+a", "+b", "+c", "-c", "-b", "-a"]


@pytest.mark.heavy
def test_children_get_only_what_they_declare(tmp_path):
    """The parent's value wins over the child's own; siblings cannot leak into each other."""

    def child(name: str, **parameters: Any) -> dict[str, Any]:
        return part(name, parameters_file=f"{name}.json", parameters=parameters)

    children = [
        child("a", const_args={"x": 1, "own": 5}),
        child("b", required_args=["y"], const_args={"own": 6}),
    ]
    bench = Bench(tmp_path, composite(*children, y="parent", z=3))
    bench.train()
    a = json.loads((bench.work / "a.json").read_text())
    b = json.loads((bench.work / "b.json").read_text())
    always = {"experiment_id": "bench", "trial_id": 1, "trial_runner_id": 1}
    assert a == {"x": 1, "own": 5} | always
    assert b == {"y": "parent", "own": 6} | always


@pytest.mark.heavy
def test_composites_within_composites(tmp_path):
    stdout = {"stdout": PATTERN}
    inner = {
        "name": "in",
        "workload": "composite",
        "prefix": True,
        "children": [part("b", [say("n=2")], results=stdout), part("c", [note("c")])],
    }
    bench = Bench(tmp_path, composite(part("a", [say("n=1")], results=stdout), inner))
    assert bench.metrics() == {"n": 1.0, "in/n": 2.0}
    assert notes(bench) == ["+a", "+b", "+c", "c", "-c", "-b", "-a"]


@pytest.mark.heavy
def test_telemetry_of_children_goes_into_one_stream(tmp_path):
    write = [PY, "-c", "open('t.csv', 'w').write('1,cpu,1\\n2,cpu,2\\n')"]
    bench = Bench(
        tmp_path,
        composite(part("a", [write], telemetry="t.csv"), part("b", [write], telemetry="t.csv")),
    )
    bench.train()
    lines = read_stream(bench.mailbox, "t0001-s1", "telemetry")
    names = ["a/cpu", "a/cpu", "b/cpu", "b/cpu"]
    assert [(i["seq"], *i["metrics"]) for i in lines] == list(enumerate(names))


def test_two_policies_are_refused(tmp_path):
    learner, simulator = {"algorithm": "ppo"}, {"id": "simple-adder"}
    rl = {"workload": "rl", "simulator": simulator, "train": {"steps": 64}, "learner": learner}
    bench = Bench(tmp_path, composite({"name": "one", **rl}, {"name": "two", **rl}))
    with pytest.raises(ConfigError, match="'one' and 'two' both train a policy"):
        bench.workload.check(bench.spec, bench.code)


# -- files ----------------------------------------------------------------------------------------


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.heavy
def test_children_from_files(tmp_path):
    write(
        tmp_path / "parts" / "one.yaml",
        """
schema: 1
name: one
workload: script
parameters: {required_args: [size]}
script: {run: ["echo n=$size"], results: {stdout: '^(\\w+)=(\\d+)$'}}
""",
    )
    file = write(
        tmp_path / "all.yaml",
        """
schema: 1
name: all
workload: composite
parameters: {const_args: {size: 7}}
children:
  - parts/one.yaml
  - {file: parts/one.yaml, name: again, prefix: true}
""",
    )
    spec = load(file).spec
    assert [child.name for child in spec.children] == ["one", "again"]
    tree = spec.model_dump(mode="json", by_alias=True, exclude={"name"})
    bench = Bench(tmp_path, tree)
    assert bench.metrics() == {"n": 7.0, "again/n": 7.0}
