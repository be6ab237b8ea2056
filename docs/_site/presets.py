"""The presets with what they reach, made from the table that the commands read."""

from __future__ import annotations

from drillyard.spec.presets import statement, table


def markdown() -> str:
    """Returns one row for each preset."""
    rows = ["| preset | simulators | steps | what it reaches |", "|---|---|---|---|"]
    for entry in table():
        simulators = ", ".join(f"`{simulator}`" for simulator in entry["when"]["simulators"])
        said = statement(entry)
        rows.append(f"| `{entry['name']}` | {simulators} | {entry['steps']:,} | {said} |")
    return "\n".join(rows) + "\n"
