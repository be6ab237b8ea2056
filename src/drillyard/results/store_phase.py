"""The store phase, the same for every workload: results where people look for them, and copies.

It reads the accepted results of training and evaluation, verifies every hash, and writes
``runs/<run>/policy/best_model.zip`` and its like as real files: someone who browses the folder or
the bucket finds them without drillyard. These lie outside the attempt's own folder on purpose.
What is written there is a function of accepted results alone, so that a repeated or a superseded
attempt writes the same bytes again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

from drillyard.documents.json_types import JsonObject, as_integer
from drillyard.errors import InfrastructureError, NotFound
from drillyard.mailbox import Mailbox
from drillyard.mailbox.files import fetch_file, has_file, sha256_file
from drillyard.mailbox.keys import encoded
from drillyard.mailbox.patience import persist
from drillyard.mailbox.records import Accepted, FileEntry, Manifest, Phase
from drillyard.mailbox.summaries import policy_used
from drillyard.metrics.streams import Line, read_stream
from drillyard.runs.workload import PhaseOutcome, RunContext
from drillyard.spec.running import StoreTarget

_TRIES = 3


@dataclass(frozen=True)
class Part:
    """One file to publish: an object that is stored already, or one that is made now."""

    name: str
    entry: FileEntry | None = None
    make: Callable[[Path], None] | None = None


def store_phase(context: RunContext) -> PhaseOutcome:
    """Publish a run's results in its folder, then copy them to the experiment's targets.

    Safe to repeat and to resume: what is there with the right hash is not written again.

    Args:
        context: Context of the ``store`` ticket.

    Returns:
        The published files, and for each target what was copied.

    Raises:
        CorruptObject: A result is not what was accepted.
        UserError: A target cannot work; it says which and what to do.
        InfrastructureError: A place could not be reached or did not keep what it was given.
    """
    from drillyard.results.copies import copy, open_target, same_place

    mailbox, run = context.mailbox, context.run.run
    trained = persist(lambda: mailbox.accepted(run, Phase.TRAIN))
    if trained is None:
        raise NotFound(f"run {run} has no accepted training result to store")
    # All targets first: one that is missing is found before gigabytes are copied to another.
    elsewhere = [t for t in context.spec.store if not same_place(t.url, mailbox.store.url)]
    targets = [(t, open_target(t.url, context)) for t in elsewhere]
    same = [t for t in context.spec.store if same_place(t.url, mailbox.store.url)]

    parts = persist(lambda: _parts(mailbox, run, trained, context))
    kept = [p for p in parts if all(selected(p.name, t) for t in same)]
    persist(lambda: mailbox.must_own(context.claim))
    files: dict[str, FileEntry] = {}
    for number, part in enumerate(kept):
        context.stop.check()
        context.progress(step=number, total=len(kept), message=f"storing {part.name}")
        files[part.name] = _publish(context, part)
    copies = []
    for spec, target in targets:
        chosen = {name: entry for name, entry in files.items() if selected(name, spec)}
        context.progress(message=f"copying {len(chosen)} files to {target.shown}")
        copies.append(copy(target, chosen, context))
        numbers = copies[-1]["written"], copies[-1]["skipped"]
        context.log.info("stored in %s: %d files written, %d were there", target.shown, *numbers)
    summary: JsonObject = {
        "files": len(files),
        "bytes": sum(e.size for e in files.values()),
        "targets": [*copies],
    }
    return PhaseOutcome(files=Manifest(files=files), summary=summary)


def selected(name: str, target: StoreTarget) -> bool:
    """True when a target's globs take a file.

    A glob is compared with the whole name and with its last part; one that names a folder takes
    what is in it: ``policy``, ``policy/*.zip`` and ``*.zip`` all take ``policy/best_model.zip``.
    """

    def hit(glob: str) -> bool:
        glob = glob.removeprefix("./").rstrip("/")
        return (
            fnmatch(name, glob)
            or fnmatch(name.rsplit("/", 1)[-1], glob)
            or fnmatch(name, f"{glob}/*")
        )

    return any(map(hit, target.include)) and not any(map(hit, target.exclude))


# -- what there is to publish -----------------------------------------------------------------


def _parts(mailbox: Mailbox, run: str, trained: Accepted, context: RunContext) -> list[Part]:
    evaluated = mailbox.accepted(run, Phase.EVALUATE)
    results = mailbox.manifest(trained).files
    used = policy_used(evaluated) or "final"
    parts = [
        Part(public, entry)
        for name, entry in results.items()
        if (public := _public_name(name, used))
    ]
    if evaluated is not None:
        parts += [Part(n, e) for n, e in mailbox.manifest(evaluated).files.items()]
    have = {p.name for p in parts}
    parts += [p for p in _derived(mailbox, run, trained, context) if p.name not in have]
    return sorted(parts, key=lambda p: p.name)


def _public_name(name: str, used: str) -> str | None:
    """The name under the run's folder of a file that training wrote; None for what stays there.

    Args:
        name: As in the train manifest.
        used: ``best`` or ``final``: which policy was evaluated, and is therefore *the* policy.
    """
    other = "final" if used == "best" else "best"
    fixed = {
        f"policy_{used}.safetensors": "policy/policy.safetensors",
        f"normalisation_{used}.npz": "policy/normalisation.npz",
        f"policy_{other}.safetensors": None,
        f"normalisation_{other}.npz": None,
    }
    if name in fixed:
        return fixed[name]
    if name in ("best_model.zip", "final_model.zip", "spaces.json", "learner.json"):
        return f"policy/{name}"
    head = name.split("/", 1)[0]
    return None if head in ("attempts", "run.json") or name.endswith(".accepted.json") else name


def _derived(mailbox: Mailbox, run: str, trained: Accepted, context: RunContext) -> list[Part]:
    from drillyard.metrics import csv_files

    def stream(name: str) -> list[Line]:
        return read_stream(mailbox, run, name, trained.attempt)

    parts = [Part("platform.json", make=lambda path: _platform(mailbox, run, path))]
    began = trained.started_at
    if train := stream("train"):
        parts.append(Part("metrics.csv", make=lambda p: csv_files.write_wide(train, p)))
    if evaluations := stream("evaluation"):
        parts.append(Part("evaluations.csv", make=lambda p: csv_files.write_wide(evaluations, p)))
    if telemetry := stream("telemetry"):
        parts.append(Part("telemetry.csv", make=lambda p: csv_files.write_long(telemetry, p)))
    if steps := stream("steps"):
        parts += _step_logs(steps, began, context)
    if episodes := stream("episodes"):
        simulator = context.spec.simulator
        world = simulator.id if simulator is not None else context.spec.name
        parts += [
            Part("progress.csv", make=lambda p: csv_files.write_episodes(episodes, p, began)),
            Part("monitor.csv", make=lambda p: csv_files.write_monitor(episodes, p, began, world)),
        ]
    return parts


def _step_logs(lines: Sequence[Line], began: float, context: RunContext) -> list[Part]:
    """Every step of training, where the wrapper ``csv_logger`` kept them."""
    from drillyard.metrics.step_csv import step_logs

    assert context.spec.simulator is not None
    logs = [(as_integer(line["metrics"]["env"]) or 0, line["log"]) for line in lines]
    return [
        Part(f"steps/train/{name}", make=partial(_write, text))
        for name, text in step_logs(logs, context.spec.simulator.id, began)
    ]


def _write(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8", newline="")


def _platform(mailbox: Mailbox, run: str, path: Path) -> None:
    """The machine that stored first: the one part that another attempt would write otherwise."""
    from drillyard.system.platform_info import platform_info

    text = json.dumps(platform_info(), indent=1, sort_keys=True, default=str)
    key = mailbox.key(f"runs/{run}/platform.json")
    mailbox.store.put_if_absent(key, text.encode())
    path.write_bytes(mailbox.store.get(key))


# -- writing ----------------------------------------------------------------------------------


def _publish(context: RunContext, part: Part) -> FileEntry:
    """Write a part under the run's folder and read it back."""
    mailbox = context.mailbox
    path = f"runs/{context.run.run}/{encoded(part.name)}"
    entry = persist(lambda: _written(context, part, path))
    if entry is None:
        raise InfrastructureError(
            f"{mailbox.store.url} does not keep what is written to {mailbox.key(path)}: it reads "
            f"back with another sha256, {_TRIES} times",
            hint="check the disk or the network behind this store",
        )
    return entry


def _written(context: RunContext, part: Part, path: str) -> FileEntry | None:
    """What is under the path now; None if it is not what was written."""
    mailbox = context.mailbox
    local = context.scratch / "store" / part.name
    local.parent.mkdir(parents=True, exist_ok=True)
    try:
        if part.entry is not None:
            if has_file(mailbox.store, mailbox.key(path), part.entry, local):
                return FileEntry(key=path, sha256=part.entry.sha256, size=part.entry.size)
            fetch_file(mailbox, part.entry, local)
        else:
            assert part.make is not None
            part.make(local)
        entry = FileEntry(key=path, sha256=sha256_file(local), size=local.stat().st_size)
        check = local.with_name(f"{local.name}.check")
        for _ in range(_TRIES):
            if has_file(mailbox.store, mailbox.key(path), entry, check):
                return entry
            mailbox.store.upload(mailbox.key(path), local)
        return entry if has_file(mailbox.store, mailbox.key(path), entry, check) else None
    finally:
        local.unlink(missing_ok=True)
