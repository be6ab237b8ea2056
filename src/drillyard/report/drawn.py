"""A picture of a page, with its numbers and what is said about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drillyard.report.picture_style import Picture
from drillyard.report.templates import safe

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture as a page shows it.

    Attributes:
        name: Name of its files, without the suffix.
        title: Above it.
        alt: Read aloud in its place.
        caption: Below it.
        picture: The picture.
        csv: Its numbers.
    """

    name: str
    title: str
    alt: str
    caption: str
    picture: Picture
    csv: str

    @property
    def svg(self) -> Markup:
        """The picture inside the page."""
        return safe(self.picture.inline)

    @property
    def narrow(self) -> Markup:
        """The same for a phone."""
        return safe(self.picture.narrow)

    def contents(self) -> dict[str, bytes]:
        """The files beside the page: name -> content."""
        picture, name = self.picture, self.name
        csv = self.csv.encode()
        return {f"{name}.svg": picture.svg, f"{name}.png": picture.png, f"{name}.csv": csv}

    @property
    def files(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.contents())
