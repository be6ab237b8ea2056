"""Whole experiments: deleted, kept as one file, and read back from it.

A deletion is written down before it begins (``deleting.json``) and ends with a listing that shows
nothing, so that an interrupted one is finished when it is repeated. Nothing is deleted while a
driver, a worker or a machine may be alive; what cannot be found out counts as alive.
"""

from drillyard.archives.activity import must_be_idle
from drillyard.archives.archive import restore, write_archive
from drillyard.archives.contents import Contents, contents
from drillyard.archives.delete import delete, open_for_deletion

__all__ = [
    "Contents",
    "contents",
    "delete",
    "must_be_idle",
    "open_for_deletion",
    "restore",
    "write_archive",
]
