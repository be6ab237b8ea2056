"""Where there is a GPU: ``python -m pytest -m gpu tests/contract/test_gpu.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from drillyard.errors import Stopped
from drillyard.mailbox.records import Phase
from drillyard.results.fingerprint import fingerprint
from drillyard.testing.phases import CountedStop, OneRun
from drillyard.workloads.rl import RlWorkload
from tests.helpers.specs import small

pytestmark = pytest.mark.gpu

LEARNERS: dict[str, dict[str, Any]] = {
    "ppo": {"args": {"n_steps": 128}},
    "sac": {"args": {"learning_starts": 64}},
    "td3": {"args": {"learning_starts": 64}},
}


def one_run(folder: Path, algorithm: str, **resources: Any) -> OneRun:
    spec = small(
        resources=resources,
        learner={"algorithm": algorithm, **LEARNERS[algorithm]},
        train={"steps": 512, "checkpoint_every": 128},
    )
    return OneRun(folder, spec, RlWorkload())


@pytest.mark.parametrize("algorithm", sorted(LEARNERS))
def test_a_resumed_training_on_a_gpu_is_exact_where_it_was_asked_to_be(tmp_path, algorithm):
    whole = one_run(tmp_path / "whole", algorithm, device="cuda", deterministic=True)
    broken = one_run(tmp_path / "broken", algorithm, device="cuda", deterministic=True)
    summary = whole.phase(Phase.TRAIN).summary
    assert summary["parameters"]["device"].startswith("cuda")
    assert summary["exactness"] == "exact"
    with pytest.raises(Stopped):
        broken.phase(Phase.TRAIN, stop=CountedStop(at=300))
    again = broken.phase(Phase.TRAIN).summary
    assert again["resumed_step"] >= 128 and again["exactness"] == "exact"
    assert fingerprint(broken.mailbox, broken.run) == fingerprint(whole.mailbox, whole.run)


def test_without_it_the_summary_promises_less(tmp_path):
    summary = one_run(tmp_path, "sac", device="cuda").phase(Phase.TRAIN).summary
    assert "without resources.deterministic" in summary["exactness"]


def test_auto_follows_the_table(tmp_path):
    parameters = one_run(tmp_path, "sac").phase(Phase.TRAIN).summary["parameters"]
    wide = "at least" in parameters["device_because"]
    assert parameters["device"].startswith("cuda" if wide else "cpu")


def test_a_policy_trained_in_mixed_precision_is_played_on_any_machine(tmp_path):
    one = one_run(tmp_path, "td3", device="cuda", precision="mixed")
    outcome = one.phase(Phase.TRAIN)
    assert outcome.summary["parameters"]["precision"] == "mixed"
    weights = load(one.contents(outcome)["policy_final.safetensors"])
    assert all(w.dtype == np.float32 and np.isfinite(w).all() for w in weights.values())
    assert one.phase(Phase.EVALUATE).summary["policies"]
