"""Checks that Google has the zones, machine types and GPUs of an order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from drillyard.errors import nearest
from drillyard.findings import Finding, Severity, passed, problem, warning
from drillyard_backends.gcp import quotas
from drillyard_backends.gcp.quotas import Machine
from drillyard_backends.gcp.read_only_client import Answer, Reader

if TYPE_CHECKING:
    from drillyard_backends.gcp.settings import GcpConfig


_HYPERDISK_ALONE = frozenset({"n4", "n4a", "n4d", "c4", "c4a", "c4d", "a4"})
"""Series without persistent disks. Source: https://github.com/nextflow-io/nextflow/pull/6841"""


@dataclass
class Catalogue:
    """What Google has in the zones of an order.

    Attributes:
        zones: Zone -> its region, those that are there and up.
        machines: (zone, machine type) -> what a machine of it takes.
        bringing: Machine types that bring GPUs of their own.
    """

    zones: dict[str, str] = field(default_factory=dict)
    machines: dict[tuple[str, str], Machine] = field(default_factory=dict)
    bringing: set[str] = field(default_factory=set)


def zones(reader: Reader, config: GcpConfig, catalogue: Catalogue) -> Iterator[Finding]:
    """Look every zone up; what is there goes into ``catalogue``."""
    for zone in config.zones:
        answer = reader.compute(f"zones/{zone}")
        message = f"there is no zone {zone!r} for {config.project}"
        if answer.status == 404:
            yield missing("zones", message, "zones", config.project)
        elif not answer.good:
            yield refused("zones", f"look zone {zone} up", answer, config.project)
            return
        elif answer.body.get("status", "UP") != "UP":
            yield warning("zones", f"{zone} is {answer.body.get('status')} now")
        else:
            region = str(answer.body.get("region", "")).rpartition("/")[2]
            catalogue.zones[zone] = region or zone.rpartition("-")[0]


def machine_types(
    reader: Reader, config: GcpConfig, gpus: int, catalogue: Catalogue
) -> Iterator[Finding]:
    """Look every machine type up in every zone; what is there goes into ``catalogue``."""
    for name in config.machine_types:
        lacking: list[str] = []
        for zone in catalogue.zones:
            answer = reader.compute(f"zones/{zone}/machineTypes/{quote(name)}")
            if answer.status == 404:
                lacking.append(zone)
            elif not answer.good:
                yield refused("machine_types", f"look {name} up in {zone}", answer, config.project)
                return
            else:
                if answer.body.get("accelerators"):
                    catalogue.bringing.add(name)
                catalogue.machines[zone, name] = _machine(name, answer.body, config, gpus)
        if lacking and len(lacking) == len(catalogue.zones):
            yield problem(
                "machine_types",
                f"{name!r} is in none of {', '.join(lacking)}",
                _other_types(reader, name, lacking[0], config.project),
            )
        elif lacking:
            yield warning(
                "machine_types",
                f"{name} is not in {', '.join(lacking)}",
                "these zones will be skipped",
            )


def disk_types(config: GcpConfig, catalogue: Catalogue) -> Iterator[Finding]:
    """Checks whether the machine types take the type of disk; a template brings its own disks."""
    if config.template is not None or config.disk_type.startswith("hyperdisk"):
        return
    names = sorted({m.name for m in catalogue.machines.values() if m.family in _HYPERDISK_ALONE})
    if names:
        yield problem(
            "disk_type",
            f"{', '.join(names)} cannot have a {config.disk_type} disk",
            "set disk_type to hyperdisk-balanced",
        )


def accelerators(reader: Reader, config: GcpConfig, catalogue: Catalogue) -> Iterator[Finding]:
    """Checks whether the GPU is in the zones, and can be attached to the machine types."""
    name = config.gpu_type
    if name is None:
        return
    for machine in {m.name: m for m in catalogue.machines.values()}.values():
        brings = machine.name in catalogue.bringing
        if not (machine.gpu_type == name if brings else machine.family == "n1"):
            yield problem(
                "gpu_type",
                f"{name} cannot be attached to {machine.name}",
                "GPUs are attached to n1 machines; a2, a3 and g2 bring their own",
            )
            return
    there, most = [], 0
    for zone in catalogue.zones:
        answer = reader.compute(f"zones/{zone}/acceleratorTypes/{quote(name)}")
        if answer.good:
            there.append(zone)
            most = max(most, int(answer.body.get("maximumCardsPerInstance", 0)))
        elif answer.status != 404:
            yield refused("gpu_type", f"look {name} up in {zone}", answer, config.project)
            return
    yield from _where_it_is(reader, config, name, there, most, catalogue)


def _where_it_is(
    reader: Reader,
    config: GcpConfig,
    name: str,
    there: list[str],
    most: int,
    catalogue: Catalogue,
) -> Iterator[Finding]:
    """Checks zones and number of a GPU; takes zones without it out of ``catalogue``."""
    count = max((m.gpus for m in catalogue.machines.values()), default=0)
    if not there and catalogue.zones:
        having = _zones_with(reader, name)
        yield problem(
            "gpu_type",
            f"{name} is in none of {', '.join(catalogue.zones)}",
            f"zones that have it: {', '.join(having)}"
            if having
            else f"gcloud compute accelerator-types list --project={config.project}",
        )
    elif most and count > most:
        yield problem(
            "gpu_count",
            f"{count} {name} on a machine; at most {most} can be",
            f"set gpu_count to {most} or less",
        )
    for zone in set(catalogue.zones) - set(there) if there else ():
        yield warning("gpu_type", f"{name} is not in {zone}", "this zone will be skipped")
        for key in [k for k in catalogue.machines if k[0] == zone]:
            del catalogue.machines[key]


def enough_gpus(config: GcpConfig, gpus: int, catalogue: Catalogue) -> Iterator[Finding]:
    """Checks whether machines have the GPUs that are asked for.

    Args:
        config: The settings. What a template of the user's own has is not looked at.
        gpus: Number of GPUs of a machine.
        catalogue: From ``machine_types``.
    """
    if config.template is not None:
        return
    for machine in {m.name: m for m in catalogue.machines.values()}.values():
        if machine.gpus < gpus:
            yield problem(
                "gpus",
                f"{gpus} GPU{'s' if gpus > 1 else ''} a machine asked for (resources.gpus), and "
                f"{machine.name} has {machine.gpus or 'none'}",
                "machine_types that bring GPUs (a2, a3, g2); or gpu_type and gpu_count, with n1 "
                "machines; or resources.gpus: 0",
            )


def room(reader: Reader, config: GcpConfig, count: int, catalogue: Catalogue) -> Iterator[Finding]:
    """Checks whether quotas have room for so many machines, somewhere at least."""
    if not catalogue.machines:
        return
    project = reader.compute("")
    everywhere = project.body.get("quotas")
    tight: dict[str, list[str]] = {}
    unknown: dict[str, list[str]] = {}
    fits = False
    for region in dict.fromkeys(catalogue.zones.values()):
        answer = reader.compute(f"regions/{region}")
        if not answer.good:
            yield refused("quota", f"read the quotas of {region}", answer, config.project)
            return
        of_region = {
            name: m
            for (zone, name), m in catalogue.machines.items()
            if catalogue.zones[zone] == region
        }
        regional = answer.body.get("quotas")
        for name, machine in of_region.items():
            short = list(quotas.short(machine, count, region, regional, everywhere))
            for metric in quotas.unlisted(machine, regional):
                unknown.setdefault(metric, []).append(f"{name} in {region}")
            fits = fits or not short
            for shortage in short:
                tight.setdefault(shortage.metric, []).append(f"{name}: {shortage}")
    for metric, lines in tight.items():
        yield Finding(
            Severity.WARNING if fits else Severity.ERROR,
            "quota",
            f"no room for {count} machine{'s' if count > 1 else ''}: " + "; ".join(lines),
            f"raise {metric}: {quotas.link(config.project, metric)}"
            + ("" if fits else "; or fewer resources.workers"),
        )
    for metric, lines in unknown.items():
        yield warning(
            "quota",
            f"unknown: Google does not list {metric} with a region; it limits " + ", ".join(lines),
            f"look here: {quotas.link(config.project, metric)}",
        )
    if not tight and not unknown:
        yield passed("quota", f"room for {count} machine{'s' if count > 1 else ''}")


def missing(subject: str, message: str, kind: str, project: str) -> Finding:
    """Returns the error for a resource that Compute Engine does not have.

    Args:
        subject: Subject of the finding.
        message: What is missing.
        kind: The kind of resource, as ``gcloud compute KIND list`` takes it.
        project: Project whose resources the command lists.
    """
    return problem(subject, message, f"gcloud compute {kind} list --project={project}")


def refused(subject: str, what: str, answer: Answer, project: str) -> Finding:
    """Returns the finding for a question about Compute Engine that Google refused."""
    enable = f"gcloud services enable compute.googleapis.com --project={project}"
    return problem(
        subject,
        f"cannot {what}: {answer.message}",
        enable if answer.api_off else "see `rights` in this list",
    )


def _machine(name: str, body: Any, config: GcpConfig, gpus: int) -> Machine:
    bare = Machine(
        name,
        int(body.get("guestCpus", 0)),
        disk_gb=config.disk_gb,
        disk_type=config.disk_type,
        spot=config.spot,
        public_ip=config.public_ip,
    )
    brought = body.get("accelerators") or []
    if brought:
        return replace(
            bare,
            gpu_type=str(brought[0].get("guestAcceleratorType")),
            gpus=int(brought[0].get("guestAcceleratorCount", 1)),
        )
    if config.gpu_type is not None:
        return replace(bare, gpu_type=config.gpu_type, gpus=config.gpu_count or max(1, gpus))
    return bare


def _other_types(reader: Reader, name: str, zone: str, project: str) -> str:
    command = f"gcloud compute machine-types list --zones={zone} --project={project}"
    answer = reader.compute(f"zones/{zone}/machineTypes", maxResults="500")
    known = [str(item.get("name")) for item in answer.body.get("items", [])] if answer.good else []
    return f"{nearest(name, known)}; {command}" if known else command


def _zones_with(reader: Reader, name: str) -> list[str]:
    answer = reader.compute("aggregated/acceleratorTypes", filter=f"name={name}")
    items = answer.body.get("items", {}) if answer.good else {}
    having = [
        str(key).rpartition("/")[2]
        for key, value in items.items()
        if any(item.get("name") == name for item in value.get("acceleratorTypes", []))
    ]
    return sorted(having)[:12]
