"""Fills the templates of this folder: one style, no script, no network, everything escaped."""

from __future__ import annotations

from importlib.resources import files

from drillyard.system.version import VERSION


def rendered(template: str, **values: object) -> str:
    """A page from a template of this folder; everything is escaped.

    Args:
        template: Name of the file.
        **values: What it shows; ``css`` and ``version`` are added.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    folder = files("drillyard.report")

    def text(name: str) -> str:
        return (folder / name).read_text(encoding="utf-8")

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, loader=FunctionLoader(text)
    )
    # Ours alone, and free of `</style>`: the two texts that are not escaped are this and the SVG
    # that matplotlib wrote, which escapes what it is given.
    css = Markup(text("page.css"))
    return environment.get_template(template).render(version=VERSION, css=css, **values)
