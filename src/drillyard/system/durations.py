"""Durations as people read them: the one format of tables, pages, logs and progress."""

from __future__ import annotations

import math

NOTHING = "-"
"""What is shown where there is no duration; ASCII, so that any terminal prints it."""


def duration(seconds: float | None) -> str:
    """``0.8 s``, ``47 s``, ``3 min 07 s``, ``2 h 05 min``, ``3 d 04 h``."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = whole // 60
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60:02d} h"


def ago(seconds: float | None) -> str:
    """``4.0 s ago``, or nothing."""
    return NOTHING if seconds is None else f"{duration(max(0.0, seconds))} ago"
