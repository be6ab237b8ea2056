"""Whether a store keeps what a mailbox asks of it, found out by doing it once."""

from __future__ import annotations

import secrets

from drillyard.errors import CorruptObject, StoreUnavailable
from drillyard.mailbox.store import ObjectMissing, Store


def sing(store: Store) -> None:
    """Write an object that was not there, read it back, and delete it again.

    Rights that a provider grants on paper say nothing of a retention policy, of keys that it
    cannot use, or of a network in between. What is left behind when deleting fails is one object
    of a few bytes, ``canary-…``.

    Args:
        store: Any.

    Raises:
        StoreUnavailable: One of the three is refused; which one, and why.
        CorruptObject: What was read is not what was written.
    """
    key, data = f"canary-{secrets.token_hex(6)}", secrets.token_bytes(16)
    step = "written to"
    try:
        if not store.put_if_absent(key, data):
            raise CorruptObject(f"store {store.url}: {key} was there before it was written")
        step = "read"
        if store.get(key) != data:
            raise CorruptObject(f"store {store.url}: what is read is not what was written")
        step = "cleaned up"
        store.delete(key)
    except StoreUnavailable as error:
        raise type(error)(
            f"the store cannot be {step}: {error.message}", hint=error.hint
        ) from error
    except ObjectMissing:
        raise CorruptObject(f"store {store.url}: what was written is not there") from None
