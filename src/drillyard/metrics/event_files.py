"""TensorBoard's event files: how lines of metric streams are written. Nothing here needs torch."""

from __future__ import annotations

import io
from collections.abc import Iterable

from drillyard.metrics.streams import Line, with_usage

STREAMS = ("train", "evaluation", "timing")
"""Streams that TensorBoard shows."""


def encode(lines: Iterable[Line], *, head: bool = True) -> bytes:
    """The content of one event file, or what is added to it.

    Args:
        lines: Lines of streams: ``step``, ``time``, ``metrics``; values that are not numbers are
            left out.
        head: Whether the file begins here.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    out = io.BytesIO()
    writer = RecordWriter(out)
    for line in with_usage(lines):
        if head:
            begin = Event(wall_time=line["time"], file_version="brain.Event:2")
            writer.write(begin.SerializeToString())
            head = False
        values = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in line["metrics"].items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        ]
        if values:
            event = Event(wall_time=line["time"], step=line["step"], summary=Summary(value=values))
            writer.write(event.SerializeToString())
    return out.getvalue()
