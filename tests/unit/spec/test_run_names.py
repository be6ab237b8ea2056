"""Names of runs for people: filled in, legal everywhere, frozen."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from drillyard.runs.submit import open_workload, run_record
from drillyard.spec.experiment import ExperimentSpec
from drillyard.spec.run_names import FIELDS, LIMIT, run_name
from drillyard.system.safe_names import bucket, file_name
from drillyard.testing.clock import FakeClock

AT = 1_767_225_599.0  # 2025-12-31T23:59:59Z


def spec(template: str | None, **changes: Any) -> ExperimentSpec:
    base: dict[str, Any] = {
        "name": "exp",
        "simulator": {"id": "CartPole-v1"},
        "learner": {"algorithm": "PPO"},
        "train": {"steps": 200_000},
        "seeds": [0, 52],
        "run_name": template,
    }
    return ExperimentSpec.model_validate({**base, **changes})


def name(template: str, seed: int = 52, **changes: Any) -> str:
    found = run_name(spec(template, **changes), run=f"t0001-s{seed}", seed=seed, at=AT)
    assert found is not None
    return found


def test_every_field_of_a_run_name_is_filled():
    whole = "{algorithm}-{simulator}-{budget}-s{seed}-t{trial}-{date}_{time}"
    assert name(whole) == "ppo-CartPole-v1-200000-steps-s52-t1-2025-12-31_235959"
    assert name("{name}.{workload}.{run}.{backend}") == "exp.rl.t0001-s52.local"
    assert name("{budget}-{seed}", train={"episodes": 3}) == "3-episodes-52"
    for field in FIELDS:
        assert name(f"x-{{{field}}}-{{seed}}")


def test_seed_0_is_kept():
    assert name("{algorithm}-s{seed}", seed=0) == "ppo-s0"


@pytest.mark.parametrize(
    "template",
    ["a b:c {seed} (x)", "../{seed}", "{seed}" + "x" * 500, "CON", "é{seed}", ".{seed}", "a/"],
)
def test_legal_on_every_file_system(template):
    found = name(template, seeds=[52])
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._=-]*", found)
    assert len(found) <= LIMIT
    assert file_name(found) == found
    assert found.lower().split(".")[0] != "con"
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", bucket(found))


def test_simulators_with_awkward_ids():
    world = {"id": "my_sims.tanks:Tank"}
    assert name("{simulator}-{seed}", simulator=world) == "Tank-52"
    assert name("{simulator}-{seed}", simulator={"id": "ALE/Pong-v5"}) == "ALE-Pong-v5-52"


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{sed}", "no field {sed}"),
        ("{seed", "a brace"),
        ("{}", "no field"),
        ("{seed!r}", "no field"),
        ("{seed:>99999999}", "no field"),
        ("{name.x}", "no field"),
        ("same", "several runs the same"),
        ("", "is empty"),
    ],
)
def test_refused(template, why):
    with pytest.raises(ValidationError, match=why):
        spec(template)


def test_frozen_in_the_record_with_the_date_of_posting():
    named = spec("{algorithm}-{seed}-{date}")
    clock = FakeClock(AT)
    made = run_record(named, open_workload(named), "t0001-s0", 0, clock=clock)
    assert made.name == "ppo-0-2025-12-31"
    assert run_record(spec(None), open_workload(named), "t0001-s0", 0).name is None
