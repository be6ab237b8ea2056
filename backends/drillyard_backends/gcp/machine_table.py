"""The table of Google's machine types: a file with the source and the date of each number."""

from __future__ import annotations

import functools
from typing import NotRequired, TypedDict

from drillyard_backends.pricelists import packaged_table


class Machine(TypedDict):
    """A type that brings its GPUs."""

    cpus: int
    memory_gb: float
    gpu: str
    gpus: int
    zones: str
    """Key of ``Table.zones``."""
    source: str
    """Keys of ``Table.sources``."""
    local_ssd_gb: NotRequired[int]
    """Size of the disks that come with it, in GB; they are billed."""
    only_spot: NotRequired[bool]
    disk_type: NotRequired[str]
    """The only type of disk that it takes."""


class Attachable(TypedDict):
    """A GPU that N1 machines can have."""

    zones: str
    source: str
    counts: dict[str, dict[str, list[int]]]
    """Number of GPUs -> kind of N1 machine -> its numbers of vCPUs."""


class Table(TypedDict):
    """The table."""

    date: str
    sources: dict[str, str]
    accelerators: dict[str, str]
    """Model of a GPU -> Google's name of it."""
    zones: dict[str, list[str]]
    machines: dict[str, Machine]
    attachable: dict[str, Attachable]
    families: dict[str, dict[str, list[int]]]
    """Family -> kind -> numbers of vCPUs, of types without GPUs."""


@functools.cache
def table() -> Table:
    """Returns the table."""
    packaged: Table = packaged_table(__package__, "machines.json")
    return packaged
