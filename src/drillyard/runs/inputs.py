"""What a run of a stage gets from other stages, on the worker."""

from __future__ import annotations

from pathlib import Path

from drillyard.documents.json_types import JsonObject
from drillyard.errors import NotFound
from drillyard.mailbox import Mailbox
from drillyard.mailbox.files import fetch_file
from drillyard.mailbox.stage_records import Inputs, inputs_key


def place_inputs(mailbox: Mailbox, run: str, folder: Path) -> JsonObject:
    """Puts the files that a run gets into its folder, verified.

    Args:
        mailbox: The stage's experiment.
        run: The run.
        folder: Its working folder.

    Returns:
        Parameter -> value.

    Raises:
        NotFound: The driver of the composite has written no inputs.
        CorruptObject: A file is missing or was changed.
    """
    record = mailbox.read(inputs_key(run), Inputs)
    if record is None:
        raise NotFound(
            f"the inputs of {run} were never written",
            hint="run the composite, not this stage alone",
        )
    for given in record.inputs.values():
        for name, entry in given.files.items():
            path = folder / name
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                fetch_file(mailbox, entry, path)
    return {name: given.value for name, given in record.inputs.items()}
