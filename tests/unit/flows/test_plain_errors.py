"""A flow run that cannot begin: its log has a sentence, its hook has nothing to give back."""

import logging
from types import SimpleNamespace

import pytest

from drillyard.errors import Bug, ConfigError
from drillyard_flows import hooks, plain_errors


@pytest.mark.parametrize(
    ("error", "traceback"),
    [
        (ConfigError("no such file", file="e.yaml", hint="look at its name"), False),
        (Bug("ours"), True),
        (ZeroDivisionError("a foreign one"), True),
    ],
)
def test_what_is_raised_on_purpose_is_said_without_a_traceback(caplog, error, traceback):
    plain_errors.install()
    plain_errors.install()
    log = logging.getLogger(plain_errors.LOGGERS[0])
    log.addHandler(caplog.handler)
    try:
        raise error
    except Exception:
        log.exception("Encountered exception during execution")
    finally:
        log.removeHandler(caplog.handler)
    assert ("Traceback" in caplog.text) is traceback
    assert traceback or "e.yaml: no such file\n  fix: look at its name" in caplog.text


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("Finished in state Cancelled('t0001-s1.train was stopped')", logging.INFO),
        ("Crash detected! Execution was aborted by a termination signal.", logging.WARNING),
        ("Finished in state Failed('the reward was NaN')", logging.ERROR),
        ("Crash detected! Execution was interrupted by an unexpected exception", logging.ERROR),
    ],
)
def test_a_stop_that_was_asked_for_is_not_an_error(caplog, monkeypatch, text, level):
    plain_errors.install()
    log = logging.getLogger("prefect.task_runs")
    # Where another test set up Prefect's logging, its handler would need a task run.
    monkeypatch.setattr(log, "handlers", [caplog.handler])
    log.error(text)
    found = {(r.levelno, r.levelname) for r in caplog.records}
    assert found == {(level, logging.getLevelName(level))}


def test_a_hook_of_a_run_whose_file_cannot_be_read_gives_nothing_back():
    flow_run = SimpleNamespace(
        parameters={"file": "nowhere.yaml"}, expected_start_time=None, tags=[]
    )
    hooks.tear_down(flow=None, flow_run=flow_run, state=None)


def test_an_error_is_not_edited_and_another_one_says_more():
    error = ConfigError("is too large", field="train.steps", value=5)
    with pytest.raises(AttributeError, match="but"):
        error.file = "a.yaml"
    more = error.but(file="a.yaml", line=3)
    assert str(more) == "a.yaml:3: train.steps: is too large (got 5)"
    assert str(error) == "train.steps: is too large (got 5)"
    assert type(more) is ConfigError and more is not error
