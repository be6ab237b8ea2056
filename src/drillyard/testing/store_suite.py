"""The contract of ``Store``, as tests.

Use it from a plug-in's tests::

    from drillyard.testing.store_suite import StoreSuite

    class TestMyStore(StoreSuite):
        @pytest.fixture
        def store(self): ...          # an empty store
        @pytest.fixture
        def other(self, store): ...   # a second client of the same place
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from drillyard.errors import UserError
from drillyard.mailbox.store import (
    ListsContents,
    ObjectMissing,
    Store,
    contents,
    keys,
    put_listed,
)


class StoreSuite:
    """Inherit, and supply the fixtures ``store`` and ``other``."""

    def test_what_is_put_is_read_by_another_client(self, store: Store, other: Store) -> None:
        """Bytes survive as they are, empty and binary ones too."""
        for key, data in {"a/b.json": b"{}", "a/empty": b"", "a/bin": bytes(range(256))}.items():
            store.put(key, data)
            assert other.get(key) == data

    def test_put_replaces(self, store: Store, other: Store) -> None:
        """The last put wins, whole."""
        store.put("k", b"first and longer")
        store.put("k", b"second")
        assert other.get("k") == b"second"

    def test_missing(self, store: Store) -> None:
        """Reading a missing object raises ``ObjectMissing``; deleting it is success."""
        with pytest.raises(ObjectMissing):
            store.get("no/such")
        assert store.stat("no/such") is None
        store.delete("no/such")
        assert list(store.list("no/")) == []

    def test_a_prefix_is_no_object(self, store: Store) -> None:
        """A folder that a key implies cannot be read as an object."""
        store.put("a/b/c", b"x")
        with pytest.raises(ObjectMissing):
            store.get("a/b")

    def test_one_racer_wins(self, store: Store, other: Store) -> None:
        """Of 16 racers exactly one creates the object, and the object has its bytes."""
        wins: list[bytes] = []
        gate = threading.Barrier(16)

        def race(number: int) -> None:
            data = f"racer {number}".encode()
            gate.wait()
            if (store if number % 2 else other).put_if_absent("claims/t.1.json", data):
                wins.append(data)

        threads = [threading.Thread(target=race, args=(n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(wins) == 1
        assert store.get("claims/t.1.json") == wins[0]

    def test_a_winner_may_ask_again(self, store: Store) -> None:
        """After a lost answer, the same bytes get True, others False."""
        assert store.put_if_absent("c", b"token 1")
        assert store.put_if_absent("c", b"token 1")
        assert not store.put_if_absent("c", b"token 2")
        assert store.get("c") == b"token 1"

    def test_list_is_fresh_sorted_and_deep(self, store: Store, other: Store) -> None:
        """New objects of another client are listed; a prefix may end inside a name."""
        keys = ["q/b.json", "q/a.json", "q/deep/er/c", "qq", "r/x"]
        for key in keys:
            other.put(key, b"1")
            assert key in [i.key for i in store.list(key)]
        assert [i.key for i in store.list("q/")] == ["q/a.json", "q/b.json", "q/deep/er/c"]
        assert [i.key for i in store.list("q")] == ["q/a.json", "q/b.json", "q/deep/er/c", "qq"]
        assert [i.key for i in store.list("q/b")] == ["q/b.json"]

    def test_keys_are_those_of_the_list(self, store: Store, other: Store) -> None:
        """A store that can list only keys lists the same keys in the same order."""
        for key in ("q/b.json", "q/a.json", "q/deep/er/c.json", "r/a.json"):
            store.put(key, b"1")
        for prefix in ("q/", "q/a", "", "no/"):
            assert list(keys(other, prefix)) == [i.key for i in other.list(prefix)]

    def test_a_listing_may_return_small_objects(self, store: Store, other: Store) -> None:
        """What a listing returns is what is stored, also after a write of another kind."""
        small, large = bytes(range(256)), b"x" * 20_000
        for key, data in {
            "b/a": small,
            "b/empty": b"",
            "b/large": large,
            "b/plain": small,
        }.items():
            put_listed(store, key, data)
        store.put("b/plain", b"written without a copy")
        listed = dict(contents(other, "b/"))
        assert list(listed) == list(other.list("b/"))
        for info, copy in listed.items():
            assert copy is None or copy == store.get(info.key)
        if isinstance(store, ListsContents):
            assert {info.key for info, copy in listed.items() if copy} == {"b/a"}
        put_listed(store, "b/a", b"newer")
        assert [copy or other.get("b/a") for _, copy in contents(other, "b/a")] == [b"newer"]

    def test_many_objects(self, store: Store) -> None:
        """A listing longer than a page is complete."""
        for number in range(1100):
            store.put(f"many/{number:05d}", b"")
        assert len(list(store.list("many/"))) == 1100

    def test_stat_tells_size_and_time(self, store: Store) -> None:
        """Times are the store's own: ``now`` and ``updated_at`` agree, and grow."""
        store.put("s", b"12345")
        first = store.stat("s")
        assert first is not None
        assert first.size == 5
        assert abs(store.now() - first.updated_at) < 5.0
        store.put("s", b"1")
        second = store.stat("s")
        assert second is not None
        assert second.updated_at >= first.updated_at

    def test_delete(self, store: Store, other: Store) -> None:
        """Gone for everyone, and the name is free again."""
        store.put("d", b"x")
        store.delete("d")
        with pytest.raises(ObjectMissing):
            other.get("d")
        assert store.put_if_absent("d", b"y")

    def test_files(self, store: Store, other: Store, tmp_path: Path) -> None:
        """Files go up and come down whole; a missing one leaves no file behind."""
        source = tmp_path / "source"
        source.write_bytes(b"\x00\xff" * 300_000)
        store.upload("files/big", source)
        other.download("files/big", tmp_path / "new folder" / "copy")
        assert (tmp_path / "new folder" / "copy").read_bytes() == source.read_bytes()
        with pytest.raises(ObjectMissing):
            store.download("files/none", tmp_path / "none")
        assert not (tmp_path / "none").exists()

    @pytest.mark.parametrize(
        "key", ["", "/abs", "a//b", "../x", "a/../b", "a/.hidden", "a\\b", "a b", "ä", "a\x00b"]
    )
    def test_illegal_keys(self, store: Store, key: str) -> None:
        """No key escapes the store or means something to a shell."""
        with pytest.raises(UserError):
            store.put(key, b"x")
        with pytest.raises(UserError):
            store.get(key)
