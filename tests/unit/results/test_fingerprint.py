"""The fingerprint: the same numbers, the same hash; one other number, another one."""

import numpy as np
import pytest

from drillyard.errors import CorruptObject, NotFound
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import AttemptStart, Phase
from drillyard.metrics.streams import StreamWriter
from drillyard.results.fingerprint import fingerprint, hash_safetensors, weights_fingerprint
from tests.helpers.records import result_of

torch = pytest.importorskip("torch")
from safetensors.torch import save  # noqa: E402

WEIGHTS = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor([1, 2])}


class Later:
    """A clock of another day."""

    def __init__(self, now):
        self._now = now

    def now(self):
        return self._now


def finished(path, weights=WEIGHTS, value=1.0, clock=0.0, attempts=1):
    mailbox = Mailbox(open_store(str(path)), "x")
    run = "t0001-s1"
    writer = None
    for attempt in range(1, attempts + 1):
        folder = mailbox.attempt_path(run, Phase.TRAIN, attempt)
        mailbox.write(f"{folder}/start.json", AttemptStart(attempt=attempt, started_at=clock))
        writer = StreamWriter(mailbox, run, attempt, clock=Later(clock))
    writer.append("train", 10, {"rollout/ep_rew_mean": value})
    writer.append("timing", 10, {"time/steps_per_s": clock})
    writer.flush()
    files = {"policy_final.safetensors": save(weights)}
    result = result_of(mailbox, run, Phase.TRAIN, files, attempts)
    mailbox.create(f"runs/{run}/train.accepted.json", result)
    return fingerprint(mailbox, run)


def test_only_numbers_count(tmp_path):
    one = finished(tmp_path / "1")
    assert len(one) == 64
    assert finished(tmp_path / "2", clock=5.0, attempts=2) == one
    other = {**WEIGHTS, "b": WEIGHTS["b"].clone()}
    other["b"][1, 2] = float(np.nextafter(np.float32(5), np.float32(6)))
    assert finished(tmp_path / "3", weights=other) != one
    assert finished(tmp_path / "4", value=1.0000001) != one


def test_names_types_and_shapes_count_and_order_does_not():
    one = hash_safetensors(save(WEIGHTS))
    assert hash_safetensors(save(dict(reversed(WEIGHTS.items())))) == one
    assert hash_safetensors(save({"c": WEIGHTS["b"], "a": WEIGHTS["a"]})) != one
    assert hash_safetensors(save({"b": WEIGHTS["b"].reshape(3, 2), "a": WEIGHTS["a"]})) != one
    assert hash_safetensors(save({**WEIGHTS, "a": WEIGHTS["a"].int()})) != one
    for bad in (b"", b"12345678", save(WEIGHTS)[:-4]):
        with pytest.raises(CorruptObject):
            hash_safetensors(bad)


def test_an_unfinished_run_has_none(tmp_path):
    mailbox = Mailbox(open_store(str(tmp_path)), "x")
    with pytest.raises(NotFound):
        fingerprint(mailbox, "t0001-s1")
    with pytest.raises(NotFound):
        weights_fingerprint(mailbox, "t0001-s1")
