"""Lines of streams reach the store, and whoever else wants them, once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pytest

from drillyard.errors import StoreUnavailable
from drillyard.mailbox import Mailbox
from drillyard.mailbox.memory import MemoryStore
from drillyard.metrics.streams import StreamWriter


class Failing(MemoryStore):
    """Refuses the segments of one stream."""

    refused = "/timing/"

    def put(self, key: str, data: bytes) -> None:
        if self.refused and self.refused in key:
            raise StoreUnavailable("away")
        super().put(key, data)


def test_lines_are_told_once_if_another_stream_cannot_be_written(tmp_path):
    store = Failing(f"memory://{tmp_path}")
    told: list[tuple[str, int]] = []

    def take(flushed: Mapping[str, Sequence[str]]) -> None:
        for stream, lines in flushed.items():
            told.extend((stream, json.loads(text)["step"]) for text in lines)

    writer = StreamWriter(Mailbox(store, "x"), "t0001-s1", 1, on_flushed=take)
    for step in (10, 20):
        for stream in ("train", "timing"):
            writer.append(stream, step, {})
        if step == 10:
            with pytest.raises(StoreUnavailable):
                writer.flush()
            assert told == [("train", 10)]
    store.refused = ""
    writer.flush()
    assert sorted(told) == [("timing", 10), ("timing", 20), ("train", 10), ("train", 20)]
