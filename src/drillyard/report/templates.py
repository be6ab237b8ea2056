"""Fills the templates of this folder: one style, no network, everything escaped."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from drillyard.system.version import VERSION

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def rendered(template: str, **values: object) -> str:
    """A page from a template of this folder; everything is escaped.

    Args:
        template: Name of the file.
        **values: What it shows; ``css`` and ``version`` are added.
    """
    # Ours alone, and free of `</style>`: the two texts that are not escaped are this and the SVG
    # of pictures, whose authors escape what they are given.
    added = {"version": VERSION, "css": safe(text("page.css")), "bad": ()}
    return _environment().get_template(template).render({**added, **values})


def safe(html: str) -> Markup:
    """HTML that is not escaped."""
    from markupsafe import Markup

    return Markup(html)


@cache
def text(name: str) -> str:
    """A file of this folder."""
    return (files("drillyard.report") / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    return Environment(autoescape=True, undefined=StrictUndefined, loader=FunctionLoader(text))
