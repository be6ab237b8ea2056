"""Refuses what a callback asks of copies that cannot do it."""

from __future__ import annotations

from drillyard.errors import ConfigError


def refused(member: str, form: str, *, call: bool) -> ConfigError:
    """The error for a callback that sets an attribute, or calls a method, of single copies.

    Args:
        member: Name of the attribute or method.
        form: How the simulator is stepped, ``vectorised`` for example.
        call: A method was called; False: an attribute was set.
    """
    what = "called" if call else "set"
    other = (
        "delete `simulator.copies_on`" if "machines" in form else "use `train.copies: processes`"
    )
    return ConfigError(
        f"{member} cannot be {what}: the simulator is {form}, so its copies are not objects "
        "of their own",
        field="learner.callbacks",
        value=member,
        hint=f"{other}, or leave the call out of the callback",
    )
