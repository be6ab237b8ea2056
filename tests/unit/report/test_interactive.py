"""Results in a program and a notebook: text, tables, data frames, pictures, errors."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

import drillyard
from drillyard import api
from drillyard.errors import ConfigError, ConfigErrors, NotFound, PluginError
from drillyard.mailbox.ticket_states import TicketState, ticket_states
from drillyard.report.interactive import WHAT
from drillyard.report.notebook import ProgressLine, in_notebook
from drillyard.testing.clock import FakeClock
from tests.helpers.fixtures_store import T0, open_box, write_experiment
from tests.helpers.study_store import write_search
from tests.unit.report.test_report import Page

pandas = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    write_experiment(root, "cstr-ppo", seeds=tuple(range(1, 13)))
    write_experiment(root, "open", seeds=(1,), finished=0)
    write_search(root, trials=4)
    return root


@pytest.fixture(scope="module")
def results(store):
    return drillyard.results_of("cstr-ppo", store=store)


def test_a_page_of_stages_that_cannot_be_written_hides_no_result(tmp_path, monkeypatch):
    box = write_experiment(tmp_path, seeds=(1,))
    (tmp_path / box.experiment / "report").write_text("not a folder")
    stages = SimpleNamespace(mailbox=box, open=list)
    monkeypatch.setattr("drillyard.driver.compose.stages_of", lambda *_, **__: stages)
    monkeypatch.setattr("drillyard.report.stages.staged_tree", lambda _: True)
    said: list[str] = []
    found = api._run_stages(None, "", None, (), False, report=True, say=said.append)
    assert found.status == "SUCCEEDED"
    assert len(said) == 1 and said[0].startswith("the report could not be built: ")


def test_the_text_is_one_screen(results):
    text = repr(results)
    assert len(text.splitlines()) <= 40
    assert "cstr-ppo: SUCCEEDED, PPO on cstr, 12 of 12 runs finished" in text
    assert "The agent reaches a mean return of" in text
    assert "… 4 more" in text


def test_a_notebook_shows_escaped_tables(results):
    page = Page(results._repr_html_())
    assert page.tags.count("table") == 2
    assert "agent" in page.texts


def test_times_are_datetimes_in_utc(store, results):
    assert results.created == datetime.fromtimestamp(T0, UTC)
    assert results.ended is not None
    assert results.ended > results.created
    assert drillyard.results_of("open", store=store).ended is None


def test_frames(results):
    runs = results.to_pandas()
    assert list(runs["seed"]) == list(range(1, 13))
    assert runs["mean_return"].between(70, 85).all()
    curves = results.to_pandas("curves")
    assert set(curves["curve"]) == {"training", "evaluation"}
    assert len(curves) == sum(len(c.training) + len(c.evaluation) for c in results.curves)
    episodes = results.to_pandas("episodes")
    agent = episodes[episodes["policy"] == "agent"]
    assert len(agent) == 12 * 40
    assert agent.groupby("run")["return"].mean().to_numpy() == pytest.approx(
        runs.set_index("run")["mean_return"].sort_index().to_numpy()
    )
    assert {"option.Cref_signal", "metric.kpi_rms_conc_error"} <= set(episodes.columns)
    policies = results.to_pandas("policies")
    assert policies["policy"].iloc[0] == "agent"


def test_trials_have_parameters_values_and_datetimes(store):
    trials = drillyard.results_of("search", store=store).to_pandas("trials")
    assert len(trials) == 5
    assert "parameter.level" in trials.columns
    assert "evaluate/score" in trials.columns
    assert str(trials["started"].dtype).endswith("UTC]")


@pytest.mark.parametrize("what", [w for w in WHAT if w != "trials"])
def test_a_table_of_what_is_not_there_yet_is_empty_or_short(store, what):
    frame = drillyard.results_of("open", store=store).to_pandas(what)
    assert len(frame) == {"runs": 1, "policies": 0, "episodes": 0}.get(what, len(frame))


def test_wrong_names_say_which_there_are(store, results):
    with pytest.raises(ConfigError, match="runs, policies, curves"):
        results.to_pandas("run")
    with pytest.raises(ConfigError, match="not a study"):
        results.to_pandas("trials")
    with pytest.raises(ConfigError, match="curves, evaluation"):
        results.plot("losses")
    with pytest.raises(ConfigError, match="nothing to draw"):
        drillyard.results_of("open", store=store).plot("evaluation")


def test_without_pandas_the_fix_is_named(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(PluginError) as error:
        results.to_pandas()
    assert "pip install pandas" in (error.value.hint or "")


def test_a_picture_shows_itself_and_is_saved(results, tmp_path):
    picture = results.plot("evaluation")
    assert picture._repr_png_().startswith(b"\x89PNG")
    assert picture.save(tmp_path / "a.svg").read_bytes() == picture.svg
    with pytest.raises(ConfigError, match=r"\.png or \.svg"):
        picture.save(tmp_path / "a.gif")
    assert len(repr(picture)) < 100


def test_the_text_of_an_error_contains_the_fix(store, tmp_path):
    with pytest.raises(NotFound) as error:
        drillyard.results_of("cstr-pp", store=store)
    assert "fix: did you mean 'cstr-ppo'" in str(error.value)
    assert error.value.message in str(error.value)
    assert error.value.__suppress_context__
    file = tmp_path / "a.yaml"
    file.write_text("name: a\nsimulator: {id: cstr}\nlearner: {algorithm: ppo}\n")
    with pytest.raises(ConfigErrors) as errors:
        drillyard.load(file, train__steps=-1, evaluate__episodes=0)
    assert str(errors.value).count("fix: ") == 2
    shown = repr(drillyard.load(file, train__steps=50_000, seeds=list(range(1, 9))))
    assert shown == (
        "<experiment a: PPO on cstr, 50,000 steps, seeds 1, 2, 3, 4, 5, …, backend local; "
        "from a.yaml>"
    )


def test_a_comparison_in_python(store, tmp_path):
    write_experiment(tmp_path, "other", seeds=(1, 2, 3, 4), level=50.0)
    found = drillyard.compare("cstr-ppo", str(tmp_path / "other"), store=store)
    assert "cstr-ppo is better than other" in repr(found)
    assert len(repr(found).splitlines()) < 20


def test_the_line_of_a_notebook_updates_in_one_place(store):
    class Handle:
        def __init__(self, text: str) -> None:
            self.texts = [text]

        def update(self, shown: object) -> None:
            self.texts.append(repr(shown))

    handles: list[Handle] = []

    def display(text: str) -> Handle:
        handles.append(Handle(text))
        return handles[-1]

    box = open_box(store, "open")
    states: dict[str, TicketState] = {}
    clock = FakeClock(T0)
    line = ProgressLine(box, lambda: states, display, clock)
    line.say("renting a worker")
    states.update(ticket_states(box))
    line.update()  # too early
    clock.advance(2.0)
    line.update()
    line.update(now=True)  # nothing new
    assert len(handles) == 1
    assert handles[0].texts == [
        "open: 0 of 0 runs done; renting a worker",
        "open: 0 of 1 run done; t0001-s1 train 67%, 13 s left",
    ]
    assert not in_notebook()
