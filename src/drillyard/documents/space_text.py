"""Spaces of simulators as text for people."""

from __future__ import annotations


def space_text(space: object) -> str:
    """A space in one line.

    Gymnasium prints the bounds of a ``Box`` as NumPy does: in columns, with line breaks and with
    long runs of blanks.

    Args:
        space: A Gymnasium space, or what a simulator has in its place.
    """
    return " ".join(str(space).split()).replace("[ ", "[").replace(" ]", "]")
