"""Imported by the pool's server process alone: it outlives a SIGTERM to the whole machine.

Where a machine is stopped, every process may hear the signal. The server must live on while its
children flush; it ends when the agent does. Each child sets a handler of its own.
"""

from __future__ import annotations

import signal

signal.signal(signal.SIGTERM, signal.SIG_IGN)
