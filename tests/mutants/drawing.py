"""Which mutants there are, which are drawn, and which of an older draw are still there."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.mutants.operators import Change, changes

ROOT = Path(__file__).parents[2]
PACKAGES = ("mailbox", "leases", "driver", "worker", "statistics")


@dataclass(frozen=True)
class Mutant:
    """A mistake, named so that it is found again after the code around it has moved.

    Attributes:
        package: Package of ``drillyard``.
        function: Qualified name of the function.
        statement: The statement, or the head of a compound one.
        operator: The kind of mistake.
        before: What is replaced.
        after: What replaces it.
        nth: Which of those that are equal in all of this, in the order of the files and lines.
    """

    package: str
    function: str
    statement: str
    operator: str
    before: str
    after: str
    nth: int

    @property
    def id(self) -> str:
        """A short name."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Place:
    """Where a mutant is in the present code."""

    file: str
    change: Change


Found = dict[Mutant, Place]


def find(root: Path = ROOT, packages: Iterable[str] = PACKAGES) -> Found:
    """All mutants of the present code, in a fixed order.

    Args:
        root: Of the checkout.
        packages: Packages of ``drillyard``.
    """
    found: Found = {}
    equal: Counter[tuple[str, ...]] = Counter()
    for package in packages:
        for path in sorted((root / "src" / "drillyard" / package).rglob("*.py")):
            for made in changes(path.read_text()):
                names = (package, made.function, made.statement, made.operator)
                names = (*names, made.before, made.after)
                place = Place(str(path.relative_to(root)), made)
                found[Mutant(*names, nth=equal[names])] = place
                equal[names] += 1
    return found


def order(found: Iterable[Mutant], seed: str) -> list[Mutant]:
    """The order in which mutants are drawn.

    Args:
        found: All of them.
        seed: Hexadecimal digits.
    """
    mutants = list(found)
    random.Random(int(seed, 16)).shuffle(mutants)
    return mutants


def draw(
    wanted: int,
    candidates: Iterable[Mutant],
    importable: Callable[[list[Mutant]], list[bool]],
) -> list[Mutant]:
    """The first mutants of an order that can be imported; others are not counted.

    Args:
        wanted: How many.
        candidates: In their order.
        importable: Whether the modules of these mutants can be imported.
    """
    drawn: list[Mutant] = []
    waiting = list(candidates)
    while waiting and len(drawn) < wanted:
        some = waiting[: wanted - len(drawn)]
        del waiting[: len(some)]
        drawn += [m for m, good in zip(some, importable(some), strict=True) if good]
    return drawn


def again(
    before: list[Mutant],
    found: Found,
    seed: str,
    importable: Callable[[list[Mutant]], list[bool]],
) -> list[Mutant]:
    """An older draw in the present code: what is gone is replaced, by its package if possible.

    Args:
        before: The older draw.
        found: All mutants of the present code.
        seed: Of the older draw.
        importable: As for ``draw``.
    """
    kept = draw(len(before), (m for m in before if m in found), importable)
    others = [m for m in order(found, seed) if m not in set(before)]
    gone = Counter(m.package for m in before) - Counter(m.package for m in kept)
    for package, count in sorted(gone.items()):
        kept += draw(count, (m for m in others if m.package == package), importable)
    return kept + draw(len(before) - len(kept), (m for m in others if m not in kept), importable)
