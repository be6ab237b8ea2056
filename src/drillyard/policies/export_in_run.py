"""The bundle of a run's policy among its results, made where torch and the simulator are.

Whoever registers it afterwards needs neither.
"""

from __future__ import annotations

from drillyard.agents.base import Which
from drillyard.agents.trained import load_trained
from drillyard.documents.json_types import JsonObject
from drillyard.errors import DrillyardError
from drillyard.mailbox.records import FileEntry
from drillyard.runs.workload import RunContext

FOLDER = "bundle/"


def enclosed(
    context: RunContext, which: Which, evaluation: JsonObject
) -> tuple[dict[str, FileEntry], str | None]:
    """Exports the evaluated policy; if this fails, no result is lost.

    Args:
        context: Context of the evaluate ticket.
        which: Policy.
        evaluation: Its summary, for the model card.

    Returns:
        The bundle's files below ``bundle/``, and why there are none.
    """
    folder = context.scratch / "bundle"
    try:
        from drillyard.policies.export import export

        export(load_trained(context.mailbox, context.run.run, which, evaluation), "onnx", folder)
    except (DrillyardError, ImportError) as error:
        context.log.warning("the policy is not registered: %s", error)
        return {}, f"no bundle to register: {error}"
    entries = {path.name: context.save(f"{FOLDER}{path.name}", path) for path in folder.iterdir()}
    return {f"{FOLDER}{name}": entry for name, entry in entries.items()}, None
