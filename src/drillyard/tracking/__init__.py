"""Tracking: the metric streams in the mailbox are the truth, trackers mirror them.

A mirror only ever reads the mailbox and writes to the tracking server, in a process of its own, so
that a server that is slow, hung or dead costs neither training nor the driver any time. What it
could not send is sent by the next ``drillyard sync`` or ``drillyard reap``; see ``behind``.
"""

from drillyard.tracking.background import Mirror
from drillyard.tracking.mirrors import Mirrors
from drillyard.tracking.sync_report import SyncReport
from drillyard.tracking.uris import mask, resolve_uri

__all__ = ["Mirror", "Mirrors", "SyncReport", "mask", "resolve_uri"]
