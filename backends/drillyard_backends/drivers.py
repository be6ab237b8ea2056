"""Which driver the machines of a cloud have, and which build of torch and JAX runs on it.

``drivers.json`` has the sources. The recipes of images take the builds of its rows.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from drillyard.backend import Order
from drillyard.findings import Finding, Severity, passed, problem, warning
from drillyard.system.gpu_software import needed_driver
from drillyard.system.installed_packages import named
from drillyard_backends.pricelists import packaged_table

GUIDE = "the guide has a table: Hardware, Drivers"
_INDEX = re.compile(r"whl/(cpu|cu\d{3})\b")
_PLUGIN = re.compile(r"jax\[(cuda\d+)")


class Row(TypedDict):
    """What machines of a place have, and what their image should have."""

    place: str
    """Kind of the backend."""
    image: str
    gpus: list[str]
    oldest: int
    """First number of the oldest driver that such a machine may have."""
    newest: int | None
    """That of the newest; None if it is not known."""
    torch: str
    """A build: ``cu126``."""
    jax: str
    source: str
    """Key of ``Table.sources``."""


class Table(TypedDict):
    """The table."""

    date: str
    sources: dict[str, str]
    rows: list[Row]


@dataclass(frozen=True)
class Software:
    """What is known of an image.

    Attributes:
        torch: Its build: ``cpu`` or ``cu126``; None if it is not known.
        jax: The CUDA plugin of JAX: ``cuda12``; empty without one, None if it is not known.
        driver: First number of the driver that it brings; None if it is not known.
    """

    torch: str | None = None
    jax: str | None = None
    driver: int | None = None


@functools.cache
def table() -> Table:
    """Returns the table."""
    packaged: Table = packaged_table(__package__, "drivers.json")
    return packaged


def of_folder(folder: Path) -> Software:
    """Returns what the recipe of an image installs, by the indexes that it names.

    Args:
        folder: With a Dockerfile.
    """
    texts = [p.read_text("utf-8", "replace") for p in (folder / "Dockerfile",) if p.is_file()]
    builds, plugins = _INDEX.findall("".join(texts)), _PLUGIN.findall("".join(texts))
    if not builds:
        return Software()
    return Software(builds[-1], plugins[-1] if plugins else "")


def examine(
    order: Order | None, place: str, image: str, model: str | None, software: Software
) -> Iterator[Finding]:
    """Compares the image of machines with GPUs with the driver that they have.

    Args:
        order: What would be rented.
        place: Kind of the backend.
        image: Kind of image, as in the table.
        model: Model of the GPU; None if the tables do not know it.
        software: What is known of the image.
    """
    if order is None or not order.gpus:
        return
    rows = table()["rows"]
    row = next(
        (r for r in rows if (r["place"], r["image"]) == (place, image) and model in r["gpus"]),
        None,
    )
    own = "torch" in named(order.requirements)
    yield _torch(
        model or "GPU", row, Software(None if own else software.torch, None, software.driver)
    )
    if order.jax:
        brought = _PLUGIN.findall(" ".join(order.requirements))
        yield from _jax(brought[0] if brought else software.jax, row)


def _torch(model: str, row: Row | None, software: Software) -> Finding:
    fix = f"an image whose torch is {_builds(row)}; {GUIDE}"
    oldest, newest = software.driver, software.driver
    if row is not None and oldest is None:
        oldest, newest = row["oldest"], row["newest"]
    has = "an unknown driver" if oldest is None else f"driver {oldest}"
    if oldest is not None and newest != oldest:
        has += f" to {newest}" if newest else " or newer"
    if software.torch == "cpu":
        return problem("driver", f"the image has torch for CPUs: no {model} would be used", fix)
    cuda = f"{software.torch[2:-1]}.{software.torch[-1]}" if software.torch else ""
    needed = needed_driver(cuda) if cuda else None
    if needed is None or oldest is None:
        built = f"CUDA {cuda}" if cuda else "which CUDA is not known"
        return warning(
            "driver",
            f"the image's torch is built for {built}; machines with {model} have {has}",
            fix,
        )
    text = (
        f"torch for CUDA {cuda} needs driver {needed} or newer; machines with {model} have {has}"
    )
    if oldest >= needed:
        return passed("driver", text)
    bad = newest is not None and newest < needed
    return Finding(Severity.ERROR if bad else Severity.WARNING, "driver", text, fix)


def _jax(plugin: str | None, row: Row | None) -> Iterator[Finding]:
    wanted = row["jax"] if row else "cuda12"
    fix = f"an image that has jax[{wanted}]; {GUIDE}"  # it is too large to travel
    if plugin is None:
        yield warning("driver", "whether the image has JAX's CUDA plugin is not known", fix)
    elif not plugin:
        yield problem(
            "driver", "the learner computes with JAX, and the image has no CUDA plugin", fix
        )


def _builds(row: Row | None) -> str:
    return f"a build {row['torch']}" if row else "built for that driver"
