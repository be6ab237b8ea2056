"""A run asked for by other ways than the form's page, and one that was asked for wrongly."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.helpers.pages import browser, log_in, make_block
from tests.helpers.patience import until
from tests.helpers.yard import LOOK_EVERY_S, Yard

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_by_prefects_own_command(team):
    file = team.bench.write("typed")
    team.prefect("deployment", "run", "experiment/nightly", "-p", f"file={file}", "-p", "seeds=2")
    run = newest(team, "typed")
    assert run["parameters"]["seeds"] == 2
    assert team.ended(run["id"])["state"]["type"] == "COMPLETED"
    assert (team.bench.store / "typed/runs/t0001-s2/store.accepted.json").is_file()


def test_by_a_schedule(team):
    file = team.bench.write("at-night")
    where = f"/deployments/{team.deployment('experiment')}/schedules"
    # Prefect looks at new schedules once a minute, and begins nothing that is past by then.
    soon = (datetime.now(UTC) + timedelta(seconds=100)).isoformat()
    schedule = {"interval": 86_400, "anchor_date": soon}
    parameters = {"file": str(file), "name": "at-night"}  # without a name, it has one for each run
    (made,) = team.api.post(
        where, [{"active": True, "schedule": schedule, "parameters": parameters}]
    )
    try:
        run = newest(team, "at-night")
        assert run["auto_scheduled"]
        assert team.ended(run["id"])["state"]["type"] == "COMPLETED"
    finally:
        team.api.patch(f"{where}/{made['id']}", {"active": False})
    team.nothing_left("at-night")


@pytest.mark.browser
def test_with_settings_typed_into_a_block_of_the_ui(team, chromium):
    with browser(chromium, team.environ) as page:
        log_in(page, team.ui, team.environ["PREFECT_API_AUTH_STRING"])
        make_block(page, team.ui, "local", Name="typed-in", Stop_Grace_S="7")

        def kept() -> bool:
            blocks = team.api.post("/block_documents/filter", {})
            return "typed-in" in [block["name"] for block in blocks]

        until(kept, what="a block", every_s=LOOK_EVERY_S)
    run = team.start(team.bench.write("by-block"), backend="local/typed-in")
    assert team.ended(run)["state"]["type"] == "COMPLETED"
    (intent,) = (team.bench.store / "by-block" / "leases").glob("*/intent.json")
    assert json.loads(intent.read_text())["order"]["settings"]["stop_grace_s"] == 7


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"backend": "local/nowhere"}, "no drillyard-local block 'nowhere'"),
        ({"backend": "locl"}, "did you mean"),
        ({"sets": ["train.stepps=3"]}, "stepps"),
        ({"parameters": ["size"]}, "is not name=value"),
    ],
)
def test_what_cannot_work_is_said_on_the_page_and_creates_nothing(team, given, said):
    team.bench.write("wrong")
    ended = team.ended(team.start(team.bench.folder / "wrong.json", **given))
    assert ended["state"]["type"] == "FAILED"
    until(  # Prefect sends the log in batches, after the state
        lambda: said in "\n".join([ended["state"]["message"], *team.api.logs(ended)]),
        what=f"{said!r} in the message or the log",
        every_s=LOOK_EVERY_S,
    )
    assert not (team.bench.store / "wrong").exists()


def newest(team: Yard, name: str) -> dict[str, object]:
    """The flow run of an experiment, once it has its name."""
    found = until(
        lambda: team.api.post("/flow_runs/filter", {"flow_runs": {"name": {"any_": [name]}}}),
        what=f"a flow run {name}",
        every_s=LOOK_EVERY_S,
    )
    return dict(found[0])
