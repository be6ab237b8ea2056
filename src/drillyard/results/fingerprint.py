"""The one hash that says whether two runs are the same.

It is taken over what training made, not over how it was stored: names, types, shapes and bytes of
the final weights, and the merged metric streams without their wall-clock fields. Two runs with the
same fingerprint went through the same numbers, however often either was killed.
"""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

from drillyard.errors import CorruptObject
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Phase
from drillyard.metrics.streams import WALL_CLOCK_STREAMS, canonical, read_stream

STREAMS = ("episodes", "evaluation", "train")
WEIGHTS = {"final": "policy_final.safetensors", "best": "policy_best.safetensors"}


def fingerprint(mailbox: Mailbox, run: str) -> str:
    """sha256 of a finished run: final weights and streams.

    Args:
        mailbox: Where the run is.
        run: Its id.

    Returns:
        64 hexadecimal digits.

    Raises:
        NotFound: The training was not accepted, or left no weights.
        CorruptObject: A file is not what its manifest says.
    """
    digest = hashlib.sha256(weights_fingerprint(mailbox, run, "final").encode())
    digest.update(streams_fingerprint(mailbox, run).encode())
    return digest.hexdigest()


def weights_fingerprint(mailbox: Mailbox, run: str, which: str = "final") -> str:
    """sha256 of a policy's weights.

    Args:
        mailbox: Where the run is.
        run: Its id.
        which: ``final`` or ``best``.

    Raises:
        NotFound: No accepted training, or no such policy.
    """
    manifest = mailbox.result(run, Phase.TRAIN)
    return hash_safetensors(mailbox.read_file(manifest, WEIGHTS[which]))


def streams_fingerprint(mailbox: Mailbox, run: str) -> str:
    """sha256 of the merged streams of a run, without wall-clock streams and fields."""
    digest = hashlib.sha256()
    for stream in STREAMS:
        if stream in WALL_CLOCK_STREAMS:
            continue
        digest.update(f"{stream}\n".encode())
        for line in read_stream(mailbox, run, stream):
            digest.update(canonical(line) + b"\n")
    return digest.hexdigest()


def hash_safetensors(data: bytes) -> str:
    """sha256 over sorted names, types, shapes and bytes of a safetensors file.

    The order and padding of a file do not count.

    Raises:
        CorruptObject: Not such a file.
    """
    header, body = safetensors(data)
    digest = hashlib.sha256()
    try:
        for name in sorted(header):
            entry = header[name]
            start, end = entry["data_offsets"]
            if end > len(body):
                raise CorruptObject(f"the tensor {name!r} is cut short")
            digest.update(json.dumps([name, entry["dtype"], entry["shape"]]).encode())
            digest.update(body[start:end])
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptObject(f"not a safetensors file: {error}") from error
    return digest.hexdigest()


def safetensors(data: bytes) -> tuple[dict[str, Any], memoryview]:
    """The description of each tensor of a safetensors file by its name, and the bytes of all.

    Read by hand (eight bytes of length, JSON, data;
    https://github.com/huggingface/safetensors#format), so that no torch is needed.

    Raises:
        CorruptObject: Not such a file.
    """
    try:
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length])
        header.pop("__metadata__", None)
        complete = all("shape" in entry for entry in header.values())
    except (struct.error, ValueError, TypeError, AttributeError) as error:
        raise CorruptObject(f"not a safetensors file: {error}") from error
    if not complete:
        raise CorruptObject("not a safetensors file: a tensor has no shape")
    return header, memoryview(data)[8 + length :]
