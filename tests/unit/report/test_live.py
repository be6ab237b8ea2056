"""The live page without a browser: what it reads, what it shows, whom it answers."""

from __future__ import annotations

import dataclasses
import http.client
import json
import socket
from urllib.parse import urlsplit

import pytest

from drillyard.errors import ConfigError, StoreUnavailable
from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import run_id, ticket_id
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import Board, Phase, TicketRecord
from drillyard.mailbox.stage_records import STATE, StagesState, StageState
from drillyard.mailbox.status import Cause
from drillyard.metrics.streams import StreamWriter
from drillyard.report.live import page, watched
from drillyard.report.live.chart import Series, chart, ticks
from drillyard.report.live.reader import LiveReader
from drillyard.report.live.server import LivePages
from drillyard.report.live.watched import Watched
from drillyard.results.time_left import runs_to_come, time_left
from drillyard.spec.study import StudySpec
from drillyard.system.redaction import register_secret
from drillyard.testing.clock import FakeClock
from tests.helpers.counting_store import CountingStore
from tests.helpers.fixtures_store import write_experiment
from tests.helpers.records import board_of, failed
from tests.helpers.study_store import write_search

RUN = "t0001-s3"


@pytest.fixture
def box(tmp_path):
    return write_experiment(tmp_path, seeds=(1, 2, 3, 4), finished=1, failed=1)


@pytest.fixture
def counted(box):
    """The same experiment in a store that counts its requests, as a bucket does."""
    store = CountingStore("memory://live")
    for info in box.store.list(""):
        store.put(info.key, box.store.get(info.key))
    yield Mailbox(store, box.experiment), store
    MemoryStore.forget("memory://live")


def at_work(box: Mailbox, step: int, **changes: object) -> Board:
    board = box.board(RUN)
    assert board is not None
    newer = Board.model_validate({**board.model_dump(), "step": step, "beat": step, **changes})
    box.write(f"board/{RUN}.json", newer)
    return newer


def test_a_look_reads_only_what_is_new(counted):
    box, store = counted
    reader = LiveReader(box)
    first = reader.read()
    store.take()
    store.bytes_read = 0
    reader.read()
    quiet = store.take()
    assert quiet <= 14  # listings, `control/` and the report's page, however old it is
    writer = StreamWriter(Mailbox(MemoryStore("memory://live"), box.experiment), RUN, 1)
    writer._next = {"train": 66, "evaluation": 8}
    for more in range(1, 4):
        writer.append("train", 40_000 + more, {"rollout/ep_rew_mean": float(more)})
        writer.flush()
        at_work(box, 40_000 + more)
        store.take()
        store.bytes_read = 0
        live = reader.read()
        # The board, two listings of streams, and the one new segment.
        assert store.take() <= quiet + 4
        assert store.bytes_read < 2_000
        (curve,) = (c for c in live.curves if c.run == RUN)
        assert curve.training[-1] == (40_000 + more, float(more))
    (before,) = (c for c in first.curves if c.run == RUN)
    assert curve.training[:-3] == before.training


def test_pages_share_a_look_and_an_experiment_that_is_over_is_left_alone(counted, tmp_path):
    box, store = counted
    clock = FakeClock()
    shown = Watched(box, clock)
    assert shown.state()["every_s"] == watched.EVERY_S
    store.take()
    for _ in range(10):
        shown.state()
    assert store.take() == 0
    clock.advance(watched.EVERY_S)
    shown.state()
    assert store.take() > 0
    over = Watched(write_experiment(tmp_path, "over", seeds=(1, 2)), clock).state()
    assert over["every_s"] == watched.OVER_EVERY_S
    assert over["title"] == "SUCCEEDED over: live"


def test_everything_in_it_is_escaped_and_secrets_are_masked(box):
    register_secret("hunter2hunter2")
    evil = "<script>alert(1)</script>"
    box.store.put(
        box.key(f"runs/{RUN}/attempts/train-1/logs/{9:012d}.txt"),
        f"{evil} hunter2hunter2\n".encode(),
    )
    box.end(failed("t0001-s4.train", Cause.USER_ERROR, message=evil, hint=evil, by="w0"))
    made = page.parts(LiveReader(box).read())
    whole = "".join(made.values())
    assert evil not in whole
    assert "&lt;script&gt;" in made["log"] and "&lt;script&gt;" in made["runs"]
    assert "hunter2" not in whole
    assert evil not in chart([Series(evil, [(1, 1.0)])], evil)


def test_a_store_that_is_away_keeps_what_was_read(box, monkeypatch):
    clock = FakeClock()
    shown = Watched(box, clock)
    before = shown.state()

    def fails(*_: object) -> object:
        raise StoreUnavailable("the bucket is away", hint="sign in")

    monkeypatch.setattr(type(box.store), "get", fails)
    clock.advance(60.0)
    after = shown.state()
    assert after["parts"] == before["parts"]
    assert "Not up to date: the bucket is away (sign in). This was read at" in after["trouble"]


def test_what_it_says_of_silence_and_of_an_end(box, tmp_path):
    live = LiveReader(box).read()
    assert page.verdict(live) == "2 of 4 runs ended, 1 running."
    assert page.share_done(live) == pytest.approx((2 + 40_000 / 60_000) / 4)
    assert not live.over and live.left_s is not None
    assert live.log is not None and live.log.run == RUN
    asked = LiveReader(box).read("t0001-s1").log
    assert asked is not None and asked.run == "t0001-s1"
    runs = page.parts(live)["runs"]
    assert "the reward was NaN at step 1,204 of copy 3" in runs
    over = LiveReader(write_experiment(tmp_path, "over", seeds=(1, 2))).read()
    assert over.over and over.left_s is None
    assert page.verdict(over) == "SUCCEEDED: 2 of 2 runs finished."
    study = LiveReader(write_search(tmp_path, 12)).read()
    made = page.parts(study)
    assert "the best 10 of 12 trials" in made["study"]


def test_what_follows_a_training_shows_its_steps(box, tmp_path):
    over = LiveReader(write_experiment(tmp_path, "over", seeds=(1, 2))).read()
    assert [run.trained for run in over.runs] == [60_000, 60_000]
    working = next(run for run in LiveReader(box).read().runs if run.run == RUN)
    assert working.board is not None and working.trained is None
    storing = dataclasses.replace(
        working,
        phase=Phase.STORE,
        board=working.board.model_copy(update={"phase": Phase.STORE, "step": 0, "total": 0}),
    )
    assert page._steps(storing) is None
    assert page._steps(dataclasses.replace(storing, trained=60_000)) == "60,000"
    assert page._steps(working) == "40,000 of 60,000"


def test_a_composite_in_stages_leads_to_its_stages(box):
    record = box.experiment_record()
    children = [{"name": "one", "after": []}, {"name": "two", "after": ["one"]}]
    spec = {**record.spec, "workload": "composite", "children": children}
    composite = Mailbox(box.store, "whole")
    composite.create("experiment.json", record.model_copy(update={"name": "whole", "spec": spec}))
    names = {"one": "succeeded", "two": "running"}
    states = [
        StageState(name=n, experiment=f"whole-{n}", workload="script", backend="local", status=s)
        for n, s in names.items()
    ]
    composite.write(STATE, StagesState(stages=states))
    live = LiveReader(composite).read()
    made = page.parts(live)
    assert page.verdict(live) == "1 of 2 stages ended, 1 running."
    assert page.share_done(live) == 0.5 and not live.over
    assert 'href="/watch/whole-two/"' in made["stages"]
    assert made["runs"] == made["machines"] == ""


def test_the_time_that_is_left():
    def board(step: int, eta_s: float | None, phase: Phase = Phase.TRAIN) -> Board:
        rate = 10.0 if eta_s is not None else None
        return board_of("r", phase, step=step, total=1000, steps_per_s=rate, eta_s=eta_s)

    assert time_left([], 0) is None
    assert time_left([None], 0) is None
    assert time_left([board(500, 50.0)], 0) == 50.0
    # Three runs wait, each for 100 s, behind two that end after 50 s and 20 s.
    assert time_left([board(500, 50.0), board(800, 20.0)], 3) == 220.0
    assert time_left([board(500, None)], 1) is None
    assert time_left([board(0, None), board(3, None, Phase.EVALUATE)], 1, [30.0]) == 30.0


def test_a_trial_that_the_state_does_not_count_yet_is_not_counted_twice(tmp_path):
    box = write_search(tmp_path, 12)
    state = box.study_state()
    assert state is not None
    behind = {"phase": "search", "budgets": {"trials": {"used": 11.0, "limit": 12.0}}}
    box.write_study_state(state.model_copy(update=behind))
    for trial in range(1, 13):
        run = run_id(trial, 1)
        ticket = ticket_id(run, Phase.TRAIN)
        box.post(
            TicketRecord(ticket=ticket, run=run, phase=Phase.TRAIN, order=trial, posted_at=0.0)
        )
    assert LiveReader(box).read().to_come == 0


def test_runs_that_a_study_has_not_chosen_yet():
    from drillyard.mailbox.records import StudyState

    study = StudySpec.model_validate({"chooser": "tpe", "trials": 10, "confirm": 2})
    state = StudyState(chosen=4, budgets={"trials": {"used": 4.0, "limit": 10.0}})
    assert runs_to_come(study, 3, state) == 6 * 3 + 2
    # The state is written after the runs of a trial are posted: no trial is counted twice.
    assert runs_to_come(study, 3, state, posted=5) == 5 * 3 + 2
    assert runs_to_come(study, 3, state, posted=11) == 2
    assert runs_to_come(study, 3, state.model_copy(update={"stopped": "enough"})) == 0
    assert runs_to_come(None, 3, None) == 0


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [(0, 60_000, 10_000), (-1.0, 1.0, 0.5), (5, 5, 1), (0.0, 1e-9, 2e-10)],
)
def test_ticks_are_round_and_hold_everything(low, high, shown):
    found = ticks(low, high, 6)
    assert found[0] <= low and found[-1] >= high
    assert found[1] - found[0] == pytest.approx(shown)


# -- the server -----------------------------------------------------------------------------------


def ask(url: str, path: str = "", method: str = "GET", **headers: str) -> tuple[int, str, str]:
    """Status, content security policy and body."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, where.path + path, headers=sent)
    answer = connection.getresponse()
    body = answer.read().decode("utf-8", "replace")
    connection.close()
    return answer.status, answer.headers.get("content-security-policy", ""), body


@pytest.fixture
def url(box):
    with LivePages(box.store) as pages:
        yield pages.url(box.experiment)


@pytest.mark.heavy
def test_its_addresses(url, box):
    status, policy, body = ask(url)
    assert status == 200 and "script-src 'self'" in policy and "<h1" in body
    assert json.loads(ask(url, "state?log=t0001-s1")[2])["parts"].keys() == set(page.PARTS)
    root = url.partition("/watch")[0]
    assert box.experiment in ask(f"{root}/")[2]
    assert "innerHTML" in ask(f"{root}/live.js")[2]
    box.store.put(box.key("report/index.html"), b"<script>alert(1)</script>")
    status, policy, _ = ask(url, "report/index.html")
    assert status == 200 and "script-src" not in policy and "default-src 'none'" in policy
    for path in ("report/none.html", "report/x.json", "report/../experiment.json", "nothing"):
        assert ask(url, path)[0] == 404
    assert ask(f"{root}/watch/other/")[0] == 404
    assert ask(url, method="POST")[0] == 501
    assert ask(url, method="HEAD")[2] == ""


@pytest.mark.heavy
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", ""])
def test_a_name_that_another_site_points_here_is_refused(url, host):
    for path in ("", "state", "report/index.html"):
        assert ask(url, path, host=host)[0] == 421


@pytest.mark.heavy
def test_other_sites_may_link_here_and_read_nothing(url):
    own = f"http://{urlsplit(url).netloc}"
    assert ask(url, "state", origin=own)[0] == 200
    assert ask(url, "state", host=f"localhost:{urlsplit(url).port}")[0] == 200
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        assert ask(url, "state", origin=origin)[0] == 403
    reads = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"}
    assert ask(url, "state", **reads)[0] == 403
    framed = {"sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"}
    assert ask(url, sec_fetch_site="same-site", **framed)[0] == 403
    followed = {"sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert ask(url, sec_fetch_site="cross-site", **followed)[0] == 200


@pytest.mark.heavy
def test_it_listens_on_this_machine_alone_and_a_port_that_is_taken_is_said(box):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} of this machine is taken"):
            LivePages(box.store, port)
    with LivePages(box.store) as pages:
        assert pages._server.server_address[0] == "127.0.0.1"
