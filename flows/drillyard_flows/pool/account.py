"""What the flow runs of a pool cost in a month, and may cost: reserved before, settled after.

Two workers of a pool may ask at once. The entries of a month are numbered, and each number is
created once (put-if-absent), so that each entry was decided with all earlier ones in view. An
entry without a settlement is work that some worker has to follow.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from drillyard.errors import ConfigError
from drillyard.mailbox import open_store
from drillyard.mailbox.folder import Folder
from drillyard.mailbox.keys import encoded
from drillyard.mailbox.records import Record
from drillyard.mailbox.store import keys


class Entry(Record):
    """``entries/<month>-<number>.json``: one flow run, written before anything is rented."""

    experiment: str
    store: str
    """URL of the store that has the experiment."""
    flow_run: str
    most: float
    """The most that it can cost."""
    written_at: float


class Settlement(Record):
    """``settled/<month>-<number>.json``: its machines are gone."""

    cost: float
    currency: str = "USD"


class Account:
    """The account of a pool.

    Args:
        store: URL of the pool's store.
        pool: Name of the pool.
    """

    def __init__(self, store: str, pool: str) -> None:
        self.folder = Folder(open_store(store), f"pool-{encoded(pool)}")
        self._known: dict[str, Entry] = {}
        self._costs: dict[str, Settlement] = {}

    def reserve(self, wanted: Entry, limit: float) -> None:
        """Reserves the cost of a flow run in this month; once, also if it is called again.

        Args:
            wanted: The flow run.
            limit: ``max_cost_month`` of the pool.

        Raises:
            ConfigError: The month has not enough left.
        """
        if any(entry.experiment == wanted.experiment for _, entry in self.open()):
            return
        month = time.strftime("%Y-%m", time.gmtime(wanted.written_at))
        while True:
            names = sorted(self._names(f"entries/{month}-"))
            spent = sum(self._cost(name) for name in names)
            if spent + wanted.most > limit:
                raise ConfigError(
                    f"the pool has {max(0.0, limit - spent):.2f} left of {limit:g} in {month}, "
                    f"and this flow run may cost {wanted.most:g}",
                    field="max_cost_month",
                    hint="raise max_cost_month of the pool, lower max_cost of the flow run, or "
                    "wait for the next month",
                )
            number = int(names[-1].rpartition("-")[2]) + 1 if names else 1
            if self.folder.create(f"entries/{month}-{number:06d}.json", wanted):
                return

    def open(self) -> list[tuple[str, Entry]]:
        """Returns (name, entry) of the flow runs that are not settled."""
        settled = set(self._names("settled/"))
        return [(n, self._entry(n)) for n in self._names("entries/") if n not in settled]

    def settle(self, experiment: str, cost: float, currency: str = "USD") -> None:
        """Writes what the machines of an experiment have cost in the end."""
        for name, entry in self.open():
            if entry.experiment == experiment:
                settlement = Settlement(cost=cost, currency=currency)
                self.folder.create(f"settled/{name}.json", settlement)

    def _names(self, prefix: str) -> Iterator[str]:
        for key in keys(self.folder.store, self.folder.key(prefix)):
            yield key.rpartition("/")[2].removesuffix(".json")

    def _entry(self, name: str) -> Entry:
        if name not in self._known:
            key = self.folder.key(f"entries/{name}.json")
            self._known[name] = self.folder.record_at(key, Entry)
        return self._known[name]

    def _cost(self, name: str) -> float:
        if name not in self._costs:
            settlement = self.folder.read(f"settled/{name}.json", Settlement)
            if settlement is None:
                return self._entry(name).most
            self._costs[name] = settlement
        return self._costs[name].cost
