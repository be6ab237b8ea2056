"""Which checkpoints are deleted, beside damaged ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from drillyard.mailbox import Mailbox
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import FileEntry
from drillyard.runs import checkpoints

RUN = "t0001-s1"


class Training:
    """Attempts of one run, whose best policy was written with the first checkpoint of each.

    Args:
        mailbox: Where.
        keep: As ``keep_checkpoints``.
    """

    def __init__(self, mailbox: Mailbox, keep: int) -> None:
        self.mailbox = mailbox
        self._keep = keep

    def attempt(self, number: int, steps: list[int]) -> None:
        best: bytes | FileEntry = b"best"
        for step in steps:
            files: dict[str, bytes | FileEntry | Path] = {"state.json": b"{}", "best": best}
            meta = checkpoints.save(self.mailbox, RUN, number, step, 1, files, {}, 0.0)
            best = meta.files["best"]
            checkpoints.prune(self.mailbox, RUN, number, self._keep)

    def damage(self) -> None:
        """Change every state that is there."""
        for info in list(self.mailbox.store.list(self.mailbox.key("runs/"))):
            if info.key.endswith("/state.json"):
                self.mailbox.store.put(info.key, b"{")

    @property
    def latest(self) -> tuple[int, int] | None:
        found = checkpoints.latest(self.mailbox, RUN)
        return None if found is None else (found.meta.step, found.meta.attempt)


@pytest.mark.parametrize("keep", [1, 3])
def test_an_attempt_keeps_its_own_beside_damaged_ones_with_higher_steps(tmp_path, keep):
    training = Training(Mailbox(MemoryStore(f"memory://{tmp_path}"), "e"), keep)
    training.attempt(1, [100, 200, 300, 400])
    training.damage()
    assert training.latest is None
    for upto in range(1, 4):
        training.attempt(2, [100, 200, 300][:upto])
        assert training.latest == (100 * upto, 2)
    own = [step for step, attempt in checkpoints.found(training.mailbox, RUN) if attempt == 2]
    assert own == [300, 200, 100][:keep]
    training.attempt(3, [350, 450])
    assert training.latest == (450, 3)


def test_without_damage_only_the_newest_are_kept(tmp_path):
    training = Training(Mailbox(MemoryStore(f"memory://{tmp_path}"), "e"), 2)
    training.attempt(1, [100, 200, 300])
    training.attempt(2, [400])
    assert checkpoints.found(training.mailbox, RUN) == [(400, 2), (300, 1)]
