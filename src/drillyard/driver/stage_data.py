"""Carries named outputs of one stage to the runs of another."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path, PurePosixPath

from drillyard.documents.json_types import Json, as_number, as_object
from drillyard.errors import NotFound, RunFailed
from drillyard.mailbox import Mailbox
from drillyard.mailbox.files import IN_MEMORY, fetch_file, sha256_file
from drillyard.mailbox.mailbox import run_id, sha256_hex
from drillyard.mailbox.records import FileEntry, Phase
from drillyard.mailbox.stage_records import Input, Inputs, Serving, inputs_key, serving_key
from drillyard.spec import ExperimentSpec
from drillyard.spec.experiment import ChildSpec
from drillyard.spec.stages import InputSpec, seeds_of, source_of

FOLDER = "inputs"
"""Folder of the inputs, in the working folder of a run and in the stage's experiment."""


class StageData:
    """Writes the inputs of stages.

    Args:
        spec: The composite.
        mailboxes: Those of its stages, by child.
    """

    def __init__(self, spec: ExperimentSpec, mailboxes: dict[str, Mailbox]) -> None:
        self._spec = spec
        self._children = {child.name: child for child in spec.children}
        self._mailboxes = mailboxes

    def write(self, name: str, seeds: list[int], services: dict[str, str]) -> None:
        """Write the inputs of every run of a stage; safe to repeat.

        Args:
            name: The child.
            seeds: Seeds of its runs.
            services: Service -> its present run.

        Raises:
            RunFailed: A stage before it did not write what it said.
            CorruptObject: A result was changed.
        """
        child, mailbox = self._children[name], self._mailboxes[name]
        if not child.inputs:
            return
        for seed in seeds:
            input_values = {
                key: self._input(child, key, given, seed, services)
                for key, given in child.inputs.items()
            }
            record = Inputs(inputs=input_values)
            run = run_id(1, seed)
            if mailbox.read(inputs_key(run), Inputs) != record:
                mailbox.write(inputs_key(run), record)

    def address(self, name: str, run: str) -> Serving | None:
        """Where a service is reached; None while it is not ready."""
        return self._mailboxes[name].read(serving_key(run), Serving)

    # -- one input ----------------------------------------------------------------------------

    def _input(
        self,
        child: ChildSpec,
        key: str,
        given: str | InputSpec,
        seed: int,
        services: dict[str, str],
    ) -> Input:
        source, output = source_of(given)
        producer = self._children[source]
        if producer.workload == "service":
            serving = self.address(source, services[source])
            if serving is None:
                raise RunFailed(f"the service {source!r} is not ready")
            return Input(value=_of_service(serving, output))
        theirs = seeds_of(self._spec, producer)
        target = f"{FOLDER}/{key}"
        if isinstance(given, InputSpec) and given.seeds == "all":
            each = {s: self._taken(child, producer, output, s, f"{target}/s{s}") for s in theirs}
            if not any(taken.files for taken in each.values()):
                values = {f"s{s}": taken.value for s, taken in each.items()}
                return self._values(child, target, values)
            files = {name: e for taken in each.values() for name, e in taken.files.items()}
            return Input(value=target, files=files)
        chosen_seed = seed if seed in theirs else theirs[0]
        return self._taken(child, producer, output, chosen_seed, target)

    def _taken(
        self, child: ChildSpec, producer: ChildSpec, output: str, seed: int, target: str
    ) -> Input:
        """The output of one run of a stage."""
        mailbox, run = self._mailboxes[producer.name], run_id(1, seed)
        if producer.workload == "rl" and output == "policy":
            return Input(value=f"run:{mailbox.experiment}/{run}")
        declared = (producer.outputs or {})[output]
        if not isinstance(declared, str):
            return Input(value=_metric(mailbox, run, declared.metric))
        return self._files(child, mailbox, run, declared.rstrip("/"), target)

    def _files(
        self, child: ChildSpec, mailbox: Mailbox, run: str, path: str, target: str
    ) -> Input:
        manifest = mailbox.result(run, Phase.TRAIN)
        child_mailbox = self._mailboxes[child.name]
        files: dict[str, FileEntry] = {}
        for name, entry in manifest.files.items():
            short = _in_folder(name)
            if short == path or short.startswith(f"{path}/"):
                below = PurePosixPath(short).relative_to(PurePosixPath(path).parent)
                files[f"{target}/{below.as_posix()}"] = _copied(mailbox, entry, child_mailbox)
        if not files:
            known = ", ".join(sorted(_in_folder(name) for name in manifest.files)[:20]) or "none"
            raise RunFailed(
                f"{run} of {mailbox.experiment} kept no file {path!r}",
                hint=f"its files: {known}; does its command write it?",
            )
        return Input(value=f"{target}/{PurePosixPath(path).name}", files=files)

    def _values(self, child: ChildSpec, target: str, values: dict[str, Json]) -> Input:
        child_mailbox, name = self._mailboxes[child.name], f"{target}.json"
        data = json.dumps(values, indent=1, sort_keys=True).encode()
        entry = FileEntry(key=_key(sha256_hex(data)), sha256=sha256_hex(data), size=len(data))
        child_mailbox.store.put(child_mailbox.key(entry.key), data)
        return Input(value=name, files={name: entry})


def _key(digest: str) -> str:
    return f"{FOLDER}/{digest}"


def _copied(source: Mailbox, entry: FileEntry, target: Mailbox) -> FileEntry:
    """A verified copy of a stored file in another experiment, named by its content."""
    key = _key(entry.sha256)
    there = target.store.stat(target.key(key))
    if there is None or there.size != entry.size:
        if entry.size <= IN_MEMORY:
            target.store.put(target.key(key), source.read_entry(entry))
        else:
            with tempfile.TemporaryDirectory(prefix="drillyard-stage-") as folder:
                path = Path(folder) / "file"
                fetch_file(source, entry, path)
                assert sha256_file(path) == entry.sha256
                target.store.upload(target.key(key), path)
    return FileEntry(key=key, sha256=entry.sha256, size=entry.size)


def _in_folder(name: str) -> str:
    """The path of a result in the folder of its run: ``children/a/files/x`` and ``files/x``: x."""
    head, mark, tail = f"/{name}".partition("/files/")
    return tail if mark and (not head or head.startswith("/children/")) else name


def _metric(mailbox: Mailbox, run: str, name: str) -> float:
    """A metric of a run.

    Raises:
        RunFailed: It has no such metric; names those it has.
    """
    accepted = mailbox.accepted(run, Phase.EVALUATE)
    if accepted is None:
        raise NotFound(f"{run} of {mailbox.experiment} has no accepted evaluation")
    agent = as_object(as_object(accepted.summary.get("policies")).get("agent"))
    values = {
        "return": agent.get("mean_return"),
        **as_object(agent.get("metrics")),
        **as_object(accepted.summary.get("metrics")),
    }
    numbers = {key: n for key, value in values.items() if (n := as_number(value)) is not None}
    if name not in numbers:
        raise RunFailed(
            f"{run} of {mailbox.experiment} has no metric {name!r}",
            hint=f"its metrics: {', '.join(sorted(numbers)) or 'none'}",
        )
    return numbers[name]


def _of_service(serving: Serving, output: str) -> Json:
    host = f"[{serving.host}]" if ":" in serving.host else serving.host
    address = f"{host}:{serving.port}"
    facts: dict[str, Json] = {
        "host": serving.host,
        "port": serving.port,
        "address": address,
        "url": f"http://{address}",
    }
    return facts[output]
