"""Known and declared ranges of a return cut intervals and bands; a wrong one is refused."""

from __future__ import annotations

import json

import pytest

from drillyard import results as r
from drillyard.report.comparison.side_by_side import compare
from drillyard.report.data import curves
from tests.helpers.fixtures_store import write_experiment


def _declare(box, section: dict[str, object]) -> None:  # type: ignore[no-untyped-def]
    key = box.key("experiment.json")
    record = json.loads(box.store.get(key))
    record["spec"]["simulator"] |= section
    box.store.put(key, json.dumps(record).encode())


def test_a_declared_range_cuts_the_interval_and_the_band(tmp_path):
    box = write_experiment(tmp_path, seeds=(1, 2, 3))
    whole = r.collect(box)
    agent = whole.agents[0]
    assert agent.interval is not None and not whole.ranges
    top = max(max(c.mean) for c in curves(whole)) + 0.01
    top = max(top, max(agent.seeds.values()) + 0.01)
    assert agent.interval.high > top
    _declare(box, {"return_range": [-1_000.0, top]})
    found = r.collect(box)
    assert found.agents[0].interval is not None
    assert found.agents[0].interval.high == top
    assert found.agents[0].interval.low == agent.interval.low
    assert max(max(c.high) for c in curves(found)) <= top


def test_a_declared_range_cuts_the_intervals_of_a_comparison(tmp_path):
    boxes = [write_experiment(tmp_path, name, seeds=(1, 2, 3)) for name in ("one", "other")]
    whole = compare(["one", "other"], str(tmp_path)).scores[0]
    top = max(whole.seeds.values()) + 0.01
    assert whole.interval.high > top
    for box in boxes:
        _declare(box, {"return_range": [-1_000.0, top]})
    assert [s.interval.high for s in compare(["one", "other"], str(tmp_path)).scores] == [top, top]


def test_a_range_that_a_return_contradicts_is_refused_by_name(tmp_path):
    box = write_experiment(tmp_path, seeds=(1, 2, 3))
    whole = r.collect(box).agents[0].interval
    _declare(box, {"return_range": [0.0, 50.0]})
    found = r.collect(box)
    assert found.agents[0].interval == whole
    (warning,) = found.warnings
    assert "t0001-s1: a return of 7" in warning
    assert "outside simulator.return_range, 0 to 50" in warning and "widen the range" in warning


@pytest.mark.parametrize("wrong", [[1, 1], [3, 2], [0, True], ["a", 1], [0]])
def test_a_range_that_is_not_one_is_refused(wrong):
    from pydantic import ValidationError

    from drillyard.spec.learning import SimulatorSpec

    with pytest.raises(ValidationError):
        SimulatorSpec.model_validate({"id": "cstr", "return_range": wrong})
