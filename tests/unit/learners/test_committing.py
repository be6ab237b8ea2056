"""Checkpoints are written beside the training, in order, and a failure is heard."""

import threading

import pytest

from drillyard.errors import StoreUnavailable
from drillyard.learners.committing import Committer
from tests.helpers.patience import PATIENCE_S


def test_the_training_goes_on_meanwhile_and_the_next_one_waits():
    committer, released, done = Committer(), threading.Event(), []
    committer.submit(lambda: done.append(released.wait(PATIENCE_S)))
    assert done == []  # submit has returned, and nothing is written yet
    threading.Timer(0.05, released.set).start()
    committer.submit(lambda: done.append("second"))
    committer.wait()
    assert done == [True, "second"]


def test_a_failure_comes_out_once_at_the_next_wait():
    def fail():
        raise StoreUnavailable("away")

    committer = Committer()
    committer.submit(fail)
    with pytest.raises(StoreUnavailable):
        committer.wait()
    committer.wait()
