"""The folder through which driver and workers talk: local disk, a bucket, a container.

``store`` is the port (five verbs over keys and bytes), ``file`` and ``memory`` are two of its
implementations, ``records`` says what is written, ``mailbox`` where.
"""

from drillyard.mailbox.mailbox import Mailbox
from drillyard.mailbox.store import ObjectInfo, Store, open_store, pace

__all__ = ["Mailbox", "ObjectInfo", "Store", "open_store", "pace"]
