"""What a pool may spend in a month: reserved before, settled after, by workers that race."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from drillyard.errors import ConfigError
from drillyard_flows.pool.account import Account, Entry


def entry(number: int, most: float, at: float = 1_800_000_000.0) -> Entry:
    name = f"flow-{number}"
    return Entry(experiment=name, store="s", flow_run=str(number), most=most, written_at=at)


def test_a_month_is_never_overdrawn_by_workers_at_once(tmp_path):
    def reserve(number: int) -> bool:
        try:
            Account(str(tmp_path), "a pool").reserve(entry(number, 1.0), 5.0)
        except ConfigError as refused:
            assert "left of 5" in str(refused)
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(reserve, range(24))) == 5
    account = Account(str(tmp_path), "a pool")
    assert len(account.open()) == 5


def test_what_was_not_spent_is_free_again_and_each_month_begins_anew(tmp_path):
    account = Account(str(tmp_path), "pool")
    account.reserve(entry(1, 4.0), 5.0)
    account.reserve(entry(1, 4.0), 5.0)  # a repeated call reserves nothing
    with pytest.raises(ConfigError, match=r"1\.00 left of 5 in 2027-01"):
        account.reserve(entry(2, 2.0), 5.0)
    account.reserve(entry(3, 5.0, at=1_803_000_000.0), 5.0)  # in February
    account.settle("flow-1", 0.5)
    account.settle("flow-1", 0.7)  # the first word counts
    account.reserve(entry(2, 4.5), 5.0)
    with pytest.raises(ConfigError):
        account.reserve(entry(4, 0.1), 5.0)
    assert [e.experiment for _, e in account.open()] == ["flow-2", "flow-3"]
