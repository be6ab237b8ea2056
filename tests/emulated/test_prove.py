"""``drillyard prove`` on either emulated cloud: refused, recorded, and killed."""

import json
import re
from itertools import count

import pytest

from drillyard.errors import ConfigError, UserError
from drillyard.leases.reaper import reap
from drillyard_backends.prove import record
from drillyard_backends.prove.runner import Proof
from tests.helpers.patience import until
from tests.helpers.proofs import CHANGES

pytestmark = pytest.mark.heavy
RIGHT = {
    "gcp": "compute.instanceGroupManagers.delete",
    "azure": "Microsoft.MachineLearningServices/workspaces/computes/delete",
}
LIES = {
    "gcp": {"lost_stay_listed": False},
    "azure": {"cluster_tags": False, "repeats": True, "cancel_status": 409},
}
PIECES = 8
"""Of the test with one kill after each of some hundred requests."""


@pytest.fixture
def kind(request):
    return request.node.callspec.params["bench"]


def test_a_cost_that_is_too_small_is_refused_before_any_request(bench):
    before = len(bench.cloud.log())
    with pytest.raises(ConfigError, match="costs at most") as refusal:
        Proof(bench.prover(), 0.01, home=bench.home)
    assert "--max-cost" in str(refusal.value.hint)
    assert len(bench.cloud.log()) == before


def test_without_rights_nothing_is_created(bench, kind):
    bench.cloud.ask("project" if kind == "gcp" else "manager", denied=[RIGHT[kind]])
    report = bench.proof()
    assert not report.created
    assert any(RIGHT[kind] in f.message for f in report.findings if f.severity.value == "error")
    assert bench.settings.get("bucket") not in bench.cloud.state().get("buckets", ())
    bench.nothing_left()


@pytest.mark.slow
def test_the_record_makes_an_emulator_behave_as_the_service_did(bench, kind, tmp_path):
    honest = bench.cloud.state()["physics"]
    bench.cloud.physics(**LIES[kind])
    first = bench.proof(pace=0.05)
    path = tmp_path / "record.json"
    record.write(record.record_of(kind, "2026-11-23", first.observations, {}), path)
    assert path.stat().st_mode & 0o777 == 0o600
    bench.cloud.physics(**honest)
    physics = record.read(path).physics
    assert {name: physics[name] for name in LIES[kind] if name in physics}
    bench.cloud.physics(**physics)
    bench.settings = bench.new_settings()
    second = bench.proof(pace=0.05)
    one, other = (
        {seen.claim.id: seen.verdict for seen in report.observations} for report in (first, second)
    )
    assert one == other


def test_the_record_is_json_that_people_can_read(tmp_path):
    path = tmp_path / "r.json"
    path.write_text("{}")
    with pytest.raises(UserError, match="not a record"):
        record.read(path)
    record.write(record.record_of("gcp", "2026-11-23", [], {}), path)
    assert json.loads(path.read_text())["kind"] == "gcp"


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1, PIECES + 1))
def test_killed_after_each_request_it_is_finished_by_the_same_command(bench, kind, first):
    # With processes the job of Azure that ends by itself need not be waited for.
    bench.cloud.physics(processes=kind == "azure")
    number = next(n for n in count(first, PIECES) if not _killed_and_finished(bench, n))
    assert number > 40
    bench.nothing_left()


def _killed_and_finished(bench, number):
    killed = bench.killed(number, re.compile(""))
    if killed:
        assert bench.finish().unconfirmed is None
        bench.nothing_left()
    return killed


@pytest.mark.slow
def test_killed_while_it_finishes_another_it_is_finished_again(bench):
    bench.cloud.physics(processes=False)
    for number in count(1):
        assert bench.killed(1, bench.create)
        if not bench.killed(number, CHANGES, bench.finish):
            break
        bench.finish()
        bench.nothing_left()
    assert number > 1
    bench.nothing_left()


@pytest.mark.parametrize("known", ["everywhere", "to the proof"])
def test_killed_with_machines_it_is_finished_by_the_reaper(bench, kind, known, monkeypatch):
    """Also where only the experiment's file or a block has the settings."""
    bench.cloud.physics(processes=False)
    assert bench.killed(1, bench.create)
    assert bench.left()
    settings = bench.settings | ({"compute": "kept"} if kind == "azure" else {})
    for name, value in settings.items() if known == "everywhere" else ():
        monkeypatch.setenv(f"DRILLYARD_{kind.upper()}_{name.upper()}", str(value))
    monkeypatch.setenv("DRILLYARD_HOME", str(bench.home))
    monkeypatch.setattr("drillyard.mailbox.driver_lock.STALE_S", 0.0)

    def reaped():
        """The proof's last sign of life may be from less than a second ago."""
        report = reap([kind], grace_s=0.0, home=bench.home)
        assert {*report.problems} <= ({kind} if known == "to the proof" else set()), report
        return any(outcome.deleted for outcome in report.outcomes)

    until(reaped, what="the end of the lease")
    state = bench.cloud.state()
    assert not any(state.get(thing) for thing in ("machines", "groups", "disks", "computes"))
    assert not list((bench.home / "intents").glob("*"))
