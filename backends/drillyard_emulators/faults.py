"""The faults of a rehearsal: what each asks of an emulated cloud, and how often it was played."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from drillyard.documents.json_types import JsonView
from drillyard.errors import ConfigError, nearest
from drillyard_emulators.http.fields import Document, Fields, number

if TYPE_CHECKING:
    from drillyard_emulators.rehearsal import Rehearsal

CHECKPOINTS = r"/checkpoints/[^/]+/manifest\.json$"
"""A checkpoint exists when its manifest is written."""
MOST = 10_000
"""Largest number of anything that a fault counts."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One value of ``--fault``.

    Attributes:
        name: What goes wrong.
        value: How often, where, how much; as it was typed.
    """

    name: str
    value: str

    @property
    def text(self) -> str:
        """As it was typed."""
        return f"{self.name}={self.value}"


Ask: TypeAlias = tuple[str, Document]
"""What to ask an emulator for: verb and arguments."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault of an emulated cloud.

    Attributes:
        value: What its value is, in words.
        ask: What to ask the emulator for.
        played: How often it was played, by the emulator's physics and the fault's place among
            those of its name. None: the emulator counts it, or it is a state and not an event.
    """

    value: str
    ask: Callable[[Fault, Rehearsal], Ask]
    played: Callable[[Fields, Fault, int], int] | None = None


def event(value: str) -> Kind:
    """Returns what happens to this many machines, each after its first checkpoint."""

    def ask(fault: Fault, _: Rehearsal) -> Ask:
        times = int(number_of(fault, 1, MOST))
        return "trigger", {"objects": CHECKPOINTS, "what": fault.name, "times": times}

    return Kind(value, ask)


def quantity(
    value: str, name: str, low: float, high: float, verb: str = "physics", *, whole: bool = False
) -> Kind:
    """Returns a fault whose number the emulator gets under a name."""

    def ask(fault: Fault, _: Rehearsal) -> Ask:
        number = number_of(fault, low, high)
        return verb, {name: int(number) if whole else number}

    return Kind(value, ask)


def counted(value: str, name: str) -> Kind:
    """Returns a fault that happens this many times; the emulator counts them down."""

    def played(physics: Fields, fault: Fault, _: int) -> int:
        return int(number_of(fault, 1, MOST)) - int(number(physics, name))

    return Kind(value, quantity(value, name, 1, MOST, whole=True).ask, played)


def share(value: str, **rule: JsonView) -> Kind:
    """Returns a rule for this share of the requests."""
    return Kind(value, lambda f, _: ("fault", {**rule, "probability": number_of(f, 0, 0.9)}))


def several(value: str, **rule: JsonView) -> Kind:
    """Returns a rule for this many requests."""
    return Kind(value, lambda f, _: ("fault", {**rule, "times": int(number_of(f, 1, MOST))}))


def form(value: str, forms: Mapping[str, Document]) -> Kind:
    """Returns another behaviour of the cloud, which the fault names."""
    return Kind(value, lambda f, _: ("physics", forms[one_of(f, forms)]))


def roles(value: str) -> Kind:
    """Returns the fault that grants the shipped roles alone; see ``Rehearsal.grant_roles``."""

    def ask(fault: Fault, _: Rehearsal) -> Ask:
        one_of(fault, ("shipped",))
        return "physics", {}

    return Kind(value, ask)


def troubles(match: str) -> dict[str, Kind]:
    """Returns what can go wrong with the calls to every emulated cloud.

    Args:
        match: Pattern over the calls to the cloud.
    """

    def ask(fault: Fault, rehearsal: Rehearsal) -> Ask:
        return "fault", trouble(fault, match, rehearsal.seed)

    slow = "SHARE of calls that take 3 to 30 seconds"
    outage = "SECONDS in which no call is answered, once, from a call on that --seed chooses"
    changing = r"^(POST|PUT|PATCH|DELETE)" + match
    return {
        "lost": share(
            "SHARE of changing calls whose answer is lost", match=changing, lose=True, after=True
        ),
        "errors": share("SHARE of calls answered with 503", match=match, status=503),
        "slow": Kind(slow, ask),
        "outage": Kind(outage, ask),
    }


def trouble(fault: Fault, match: str, seed: int) -> Document:
    """Returns the rule for ``slow`` or ``outage``.

    Args:
        fault: The fault.
        match: Pattern over the calls to the cloud.
        seed: Seed of the rehearsal.
    """
    if fault.name == "slow":
        share = number_of(fault, 0, 0.9)
        return {"match": match, "delay_s": 3.0, "delay_most_s": 30.0, "probability": share}
    first = random.Random(seed).randrange(10, 100)
    lasts_s = number_of(fault, 1, 600)
    return {"match": match, "lose": True, "lasts_s": lasts_s, "skip": first}


_TOGETHER = ("physics", "project", "manager")


def merged(calls: Iterable[Ask]) -> list[Ask]:
    """Returns what to ask an emulator for, where the later of two lists would replace the first.

    Args:
        calls: What each fault asks for: verb and arguments.
    """
    kept: list[Ask] = []
    together: dict[str, Document] = {}
    for verb, arguments in calls:
        if verb not in _TOGETHER:
            kept.append((verb, arguments))
            continue
        so_far = together.setdefault(verb, {})
        for name, value in arguments.items():
            old = so_far.get(name)
            so_far[name] = (
                [*old, *value] if isinstance(old, list) and isinstance(value, list) else value
            )
    return [*kept, *together.items()]


def one_of(fault: Fault, known: Iterable[str]) -> str:
    """Returns a fault's value, which is one of several words.

    Raises:
        ConfigError: It is another word.
    """
    words = sorted(known)
    if fault.value not in words:
        near = nearest(fault.value, words)
        hint = f"--fault {fault.name}={near or words[0]}"
        raise refused(fault.name, "is not known", fault.value, ", ".join(words), hint)
    return fault.value


def parse_faults(texts: Sequence[str], known: Mapping[str, Kind]) -> list[Fault]:
    """Returns the faults of a command line.

    Args:
        texts: ``preempt=2``, ``stockout=europe-west1-b``.
        known: Every kind of fault, by name.

    Raises:
        ConfigError: An unknown name, or a missing value.
    """
    faults = []
    for text in texts:
        name, sign, value = text.partition("=")
        if name not in known:
            allowed = ", ".join(f"{n}={kind.value}" for n, kind in known.items())
            raise refused("", "no such fault", text, allowed, nearest(name, list(known)))
        if not sign or not value:
            usage = f"{name}={known[name].value}"
            raise refused("", "has no value", text, usage, f"--fault {usage}")
        faults.append(Fault(name, value))
    return faults


def refused(name: str, message: str, value: str, allowed: str, hint: str | None) -> ConfigError:
    """Returns the error for a fault of the command line that cannot be used.

    Args:
        name: Name of the fault; empty if the whole option is wrong.
        message: What is wrong.
        value: The value that was given.
        allowed: The values that are allowed.
        hint: A correct example.
    """
    return ConfigError(
        message,
        file="command line",
        field=f"--fault {name}".rstrip(),
        value=value,
        allowed=allowed,
        hint=hint,
    )


def number_of(fault: Fault, low: float, high: float) -> float:
    """A fault's value as a number.

    Raises:
        ConfigError: It is not a number, or out of bounds.
    """
    try:
        value = float(fault.value)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        example = f"--fault {fault.name}={max(low, min(high, 1)):g}"
        allowed = f"{low:g} to {high:g}"
        raise refused(fault.name, "is not such a number", fault.value, allowed, example)
    return value
