"""``backend: [ssh/den, gcp/prod]``: the form of a list of backends.

An experiment can have it, and so can a child of a composite. The models keep the first backend in
``backend`` and the others in ``elsewhere``.
"""

from __future__ import annotations

from collections.abc import Sequence

from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import BadValue

ALLOWED = "a list of one or more different backends: [ssh/den, gcp/prod]"


def backends_in_turn(value: Json) -> Json:
    """Turns ``backend: [a, b]`` of a mapping into the first backend and the others.

    Raises:
        BadValue: See ``listed_backends``.
    """
    if not isinstance(value, dict) or not isinstance(value.get("backend"), list):
        return value
    first, *others = listed_backends(value)
    rest: list[Json] = [*others]
    return {**value, "backend": first, **({"elsewhere": rest} if rest else {})}


def listed_backends(tree: JsonObject) -> list[str]:
    """Returns the list under ``backend`` of an experiment's tree.

    Raises:
        BadValue: It is empty, has another value than a name, or has a name twice; or
            ``elsewhere`` is given as well.
    """
    listed = tree["backend"]
    assert isinstance(listed, list)
    if not listed:
        raise BadValue(
            "the list of backends is empty",
            value=str(listed),
            allowed=ALLOWED,
            hint="write `backend: local`, or name at least one backend",
            key="backend",
        )
    if tree.get("elsewhere"):
        raise BadValue(
            "`backend` is a list, and `elsewhere` names backends as well",
            value=str(tree["elsewhere"]),
            allowed="one of the two",
            hint=f"write `backend: {_shown([*listed, *_items(tree['elsewhere'])])}` alone",
            key="elsewhere",
        )
    names: list[str] = []
    for number, name in enumerate(listed):
        if not isinstance(name, str) or not name.strip():
            raise BadValue(
                "is not the name of a backend",
                value=str(name),
                allowed=ALLOWED,
                hint="write `local`, `kind`, or `kind/block-name`",
                key=("backend", number),
            )
        if name in names:
            others = list(dict.fromkeys(str(each) for each in listed))
            raise BadValue(
                f"{name} is listed twice",
                value=name,
                allowed="each backend once",
                hint=f"write `backend: {_shown(others)}`; two accounts of one provider need two "
                "blocks: gcp/a and gcp/b",
                key=("backend", number),
            )
        names.append(name)
    return names


def _items(value: Json) -> list[Json]:
    return value if isinstance(value, list) else [value]


def _shown(names: Sequence[Json]) -> str:
    return f"[{', '.join(map(str, names))}]"
