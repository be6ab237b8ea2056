"""Imported by the pool's server process alone: it outlives a SIGTERM to the whole machine.

Where a machine is stopped, every process may hear the signal. The server must live on while its
children flush; it ends when the worker does. Each child sets a handler of its own.

It imports without looking for reference cycles (``preload`` ends that), which saves a quarter of
the time.

Its own end is short: taking apart an interpreter with torch in it costs a second of computing, and
there is nothing in it to be saved. Handlers that are registered first are called last.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal

atexit.register(os._exit, 0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
gc.disable()
