"""A limit that Prefect counts holds back whole experiments, and gives way when they end."""

from __future__ import annotations

import json

from tests.flows.conftest import Bench
from tests.helpers.patience import until


def mock_file(bench: Bench, name: str, **resources: object) -> str:
    path = bench.folder / f"{name}.json"
    path.write_text(
        json.dumps(
            {
                "schema": 1,
                "name": name,
                "workload": "mock",
                "tracking": {"mlflow": None},
                "resources": {"workers": 2, **resources},
            }
        )
    )
    return str(path)


def test_an_experiment_waits_for_its_slots_and_rents_nothing_before(api, bench):
    made = api.post("/v2/concurrency_limits/", {"name": "licences", "limit": 3, "active_slots": 0})
    slots = {"names": ["licences"], "slots": 2, "mode": "concurrency"}
    api.post("/v2/concurrency_limits/increment", slots)
    file = mock_file(bench, "waits", limit="licences")
    child = bench.start("run", file)
    until(lambda: "waiting for 2 slots" in bench.said() or child.poll() is not None)
    assert child.poll() is None, bench.said()
    assert not (bench.store / "waits" / "leases").exists()
    api.post("/v2/concurrency_limits/decrement", {**slots, "occupancy_seconds": 1.0})
    assert bench.ended(child) == 0, bench.said()
    assert set(bench.leases("waits").values()) == {True}
    now = api.get(f"/v2/concurrency_limits/{made['id']}")
    assert now["active_slots"] == 0

    for name, resources, said in (
        ("none", {"limit": "licenses"}, "prefect gcl create licenses --limit 2"),
        ("large", {"limit": "licences", "workers": 4}, "has 3 slots"),
    ):
        done = bench.run("run", mock_file(bench, name, **resources))
        assert done.returncode == 2, done.stdout + done.stderr
        assert said in done.stderr
        assert not (bench.store / name / "leases").exists()


def test_without_prefect_nothing_that_it_counts_is_begun(bench):
    file = mock_file(bench, "uncounted", limit="licences")
    done = bench.run("run", file, "--offline-ok", PREFECT_API_URL="http://127.0.0.1:9/api")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "which counts the limit 'licences'" in done.stderr
    assert not (bench.store / "uncounted" / "leases").exists()
