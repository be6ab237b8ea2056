"""Studies of listed experiments, and studies whose trials a limit ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from drillyard.errors import ConfigError, ConfigErrors, RunFailed, StoreUnavailable, TimedOut
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import StudyState, TrialRecord
from drillyard.mailbox.status import Cause, Status
from drillyard.spec.binding import with_parts
from drillyard.spec.load import load, load_resolved
from drillyard.studies.factory import make_chooser
from drillyard.studies.search import Search
from tests.helpers.searches import begun
from tests.unit.studies.test_superseded_study import fail_one, twelve

# -- Listed experiments of a study: laid over the file, resolved, refused by name -------------


LISTED = """
schema: 1
name: listed
simulator: {id: CartPole-v1}
learner: {algorithm: ppo, args: {n_steps: 64, batch_size: 64}}
train: {steps: 4000}
study:
  chooser: list
  experiments:
    - {label: ppo}
    - {label: more, learner: {args: {n_steps: 32}}}
    - {label: dqn, learner: {algorithm: dqn}, seeds: [7]}
"""


def test_a_listed_experiment_is_laid_over_the_file_and_resolved(tmp_path):
    (tmp_path / "l.yaml").write_text(LISTED)
    loaded = load(tmp_path / "l.yaml")
    chooser = make_chooser(loaded.spec, Mailbox(open_store(str(tmp_path / "r")), "l"))
    asked = []
    for number in (1, 2, 3):
        asked.append(chooser.ask(number, ()))
        chooser.kept(TrialRecord(number=number, chooser="list", seeds=[1], chosen_at=0))
    ppo, more, dqn = asked
    assert ppo and more and dqn and chooser.ask(4, ()) is None
    assert (ppo.label, ppo.parts, ppo.seeds) == ("ppo", {}, None)
    assert more.parts["learner"]["args"]["n_steps"] == 32
    assert more.parts["learner"]["args"]["batch_size"] == 64
    assert set(more.parts) == {"learner"}
    # Another algorithm stands for itself, with its own preset.
    assert "n_steps" not in dqn.parts["learner"]["args"]
    assert dqn.parts["learner"]["args"]["learning_rate"] == 0.0023
    assert dqn.seeds == (7,)
    own = with_parts(loaded.spec, dqn.parts)
    assert own.learner is not None and own.learner.algorithm == "dqn"
    # What was resolved is what a resume reads, without the file and its presets.
    again = load_resolved(loaded.spec.model_dump(mode="json", by_alias=True), folder=tmp_path)
    assert again.spec.study == loaded.spec.study


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("learner: {args: {n_step: 32}}", "experiments[1].learner.args.n_step"),
        ("learnr: {args: {n_steps: 32}}", "did you mean 'learner'"),
        ("seeds: [1, 1]", "experiments[1].seeds"),
        ("train: {steps: 0}", "experiments[1].train.steps"),
    ],
)
def test_a_listed_experiment_that_cannot_be_is_named(tmp_path, wrong, said):
    (tmp_path / "l.yaml").write_text(LISTED.replace("learner: {args: {n_steps: 32}}", wrong))
    with pytest.raises((ConfigError, ConfigErrors)) as caught:
        load(tmp_path / "l.yaml")
    assert said in f"{caught.value} {caught.value.hint}"


# -- A study whose trials a limit ended: the error says so, and the same command continues them


URL = "memory://limited"


@pytest.fixture
def mailbox():
    yield Mailbox(MemoryStore(URL), "s")
    MemoryStore.forget(URL)


def ended_by(mailbox: Mailbox, folder: Path, causes: list[Cause]) -> Search:
    search = begun(mailbox, twelve(folder, trials=len(causes)))
    for cause in causes:
        fail_one(mailbox, cause)
        for _ in range(3):
            search.step(0.0)
    assert search.over
    search.close()
    return search


def test_trials_that_a_limit_ended_are_not_called_failures(mailbox, tmp_path):
    """Simulation: "1 of 3 trials have failed: budget.max_hours = 0.05 ended the lease"."""
    search = ended_by(mailbox, tmp_path, [Cause.TIME_LIMIT, Cause.TIME_LIMIT])
    error = search.verdict()
    assert isinstance(error, TimedOut)
    assert "a limit ended 2 of 2 trials" in error.message
    assert error.hint is not None and "raise it and run the same command" in error.hint
    assert search.book.settled() == set(), "the same command forgives their endings"


def test_the_end_of_a_study_is_written_again_after_an_outage_of_the_store(
    mailbox, tmp_path, monkeypatch
):
    search = begun(mailbox, twelve(tmp_path, trials=1))
    fail_one(mailbox, Cause.TIME_LIMIT)
    write, outage = search._account.write, [StoreUnavailable("no route to host")] * 3

    def away(phase: str, seeds_rule: str | None) -> StudyState:
        if phase == "over" and outage:
            raise outage.pop()
        return write(phase, seeds_rule)

    monkeypatch.setattr(search._account, "write", away)
    for now in range(10):
        search.step(float(now))
    assert search.over
    state = mailbox.read("study.json", StudyState)
    assert state is not None and state.phase == "over"
    search.close()


def test_a_trial_that_failed_by_itself_stays_one(mailbox, tmp_path):
    search = ended_by(mailbox, tmp_path, [Cause.TIME_LIMIT, Cause.USER_ERROR])
    assert isinstance(search.verdict(), RunFailed)
    failed = [n for n, o in search.outcomes.items() if o.status is Status.FAILED]
    assert len(failed) == 1 and search.book.settled() == set(failed)
