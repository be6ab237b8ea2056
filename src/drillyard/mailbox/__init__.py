"""The folder through which driver and workers communicate: a local disk or a bucket.

``store`` is the port (keys and bytes), ``file`` and ``memory`` are two of its implementations.
``records`` defines what is written, ``mailbox`` defines where.
"""

from drillyard.mailbox.mailbox import Mailbox
from drillyard.mailbox.store import ObjectInfo, Store, open_store, pace

__all__ = ["Mailbox", "ObjectInfo", "Store", "open_store", "pace"]
