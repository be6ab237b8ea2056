"""Checks that a store can do what a mailbox needs, by doing it once."""

from __future__ import annotations

import secrets

from drillyard.errors import CorruptObject, StoreUnavailable
from drillyard.mailbox.store import ObjectMissing, Store


def check_store(store: Store) -> None:
    """Write an object that was not there, read it back, and delete it again.

    Permissions alone do not show a retention policy, an encryption key that cannot be used, or a
    broken network. If the deletion fails, an object of a few bytes named ``canary-…`` remains.

    Args:
        store: The store to check.

    Raises:
        StoreUnavailable: One of the three operations failed; the message says which one and why.
        CorruptObject: The bytes that were read differ from the bytes that were written.
    """
    key, data = f"canary-{secrets.token_hex(6)}", secrets.token_bytes(16)
    step = "written to"
    try:
        if not store.put_if_absent(key, data):
            raise CorruptObject(f"store {store.url}: {key} existed before it was written")
        step = "read"
        if store.get(key) != data:
            raise CorruptObject(f"store {store.url}: the bytes read differ from the bytes written")
        step = "cleaned up"
        store.delete(key)
    except StoreUnavailable as error:
        raise type(error)(
            f"the store cannot be {step}: {error.message}", hint=error.hint
        ) from error
    except ObjectMissing:
        raise CorruptObject(f"store {store.url}: the object that was written is missing") from None
