"""Whether hosts would be faster: what is expected, and what is said."""

import tempfile

import pytest

from drillyard.findings import Severity
from drillyard.simulators.hosts import measure
from drillyard.spec.learning import SimulatorSpec

SLOW = SimulatorSpec(id="tests.helpers.hosted_worlds:Waits", copies_on="workers")


@pytest.mark.parametrize(
    ("copy_s", "message_s", "n_envs", "hosts", "cores", "found"),
    [
        (0.05, 0.002, 64, 8, 8, 0.002 + 64 * 20e-6 + 0.05),
        (0.05, 0.002, 64, 8, 4, 0.002 + 64 * 20e-6 + 0.1),
        (0.05, 0.0, 9, 8, 1, 9 * 20e-6 + 0.1),
    ],
)
def test_expected_seconds_of_a_step(copy_s, message_s, n_envs, hosts, cores, found):
    assert measure.expected_s(copy_s, message_s, n_envs, hosts, cores) == pytest.approx(found)


@pytest.mark.parametrize(
    ("here_s", "hosted_s", "severity", "words"),
    [
        (0.5, 0.052, Severity.OK, "times as fast"),
        (0.001, 0.003, Severity.WARNING, "times slower"),
    ],
)
def test_what_is_said(monkeypatch, here_s, hosted_s, severity, words):
    monkeypatch.setattr(
        measure, "_step_s", lambda _, copies, how: here_s if copies > 1 else here_s / 10
    )
    monkeypatch.setattr(measure, "_hosted_s", lambda _: hosted_s)
    monkeypatch.setattr(measure.os, "cpu_count", lambda: 4)
    finding = measure.comparison(SLOW, 10, 5)
    assert finding.severity is severity and words in finding.message
    assert (finding.fix is None or not finding.fix) == (severity is Severity.OK)


@pytest.mark.heavy
def test_a_host_is_measured_with_a_real_one():
    quick = SLOW.model_copy(update={"args": {"wait_s": 0.001}, "copies_on": "learner"})
    assert measure._hosted_s(quick) > 0.001


@pytest.mark.heavy
def test_a_host_that_is_ended_leaves_no_folder(tmp_path, monkeypatch):
    """A signal ends it, so that nothing of its own cleans up: `/tmp/pymp-…` stayed."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert measure._hosted_s(SimulatorSpec(id="CartPole-v1")) > 0.0
    assert list(tmp_path.iterdir()) == []
