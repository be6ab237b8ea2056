"""Probes of Google Cloud that only read, and those of the bucket."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from drillyard_backends.gcp import quotas, rights
from drillyard_backends.gcp.prerequisites import MOST_SKEW_S
from drillyard_backends.gcp.prove.scene import GcpScene
from drillyard_backends.prove.probes import Claims, Observation, Probe, Untestable, of_store

MORE_THAN_THE_ROLE = (
    "compute.firewalls.create",
    "compute.instances.setIamPolicy",
    "resourcemanager.projects.setIamPolicy",
)
"""In no role of drillyard's: a caller who has one of them proves nothing about the role."""

CLAIMS = Claims(f"""
G79 Google's answers carry the time
  this machine's own clock decides what has expired
G134 a clock that is up to {MOST_SKEW_S:.0f} s wrong is accepted
  requests for tokens fail, and `plan` says so
G122 every permission that drillyard asks about exists at Google
  `plan` cannot ask which rights are missing, and refuses every run
G123 testIamPermissions answers with the permissions that the caller has
  as G122
G125 a service account that does not exist is answered with 404
  `plan` names the wrong fix for a missing service account
G30 zones tell their status, and machine types their number of CPUs
  `plan` is less exact; nothing is rented wrongly
G80 the region lists quotas by the names that `plan` looks for
  `plan` does not see that a quota is too small; machines wait and nothing is paid
G85 the region's answer has its quotas
  as G80
G90 a read, a listing and a delete see every earlier write at once
  an end is seen late; results are accepted by G91 and stay safe
G91 only the first of two creates of one object succeeds
  two attempts could both be accepted: do not use this bucket
G98 an object's name may have 900 bytes
  long run names are refused at the first write
""")


def clock(scene: GcpScene) -> Iterator[Observation]:
    """Compares clocks."""
    skew_s = scene.reader.skew_s(scene.config.bucket)
    yield CLAIMS.G79.judged(
        skew_s is not None, "the answer has a date" if skew_s is not None else "none"
    )
    if skew_s is not None:
        yield CLAIMS.G134.judged(abs(skew_s) < MOST_SKEW_S, f"this clock is {skew_s:+.1f} s off")


def permissions(scene: GcpScene) -> Iterator[Observation]:
    """Asks which permissions the caller has."""
    answer = scene.reader.project_rights(rights.DRIVER)
    text = answer.message if not answer.good else f"{len(rights.DRIVER)} names were accepted"
    yield CLAIMS.G122.judged(answer.good or answer.status != 400, text)
    if answer.good:
        granted = {str(name) for name in answer.body.get("permissions", [])}
        extra = sorted(granted - set(rights.DRIVER))
        missing = sorted(set(rights.DRIVER) - granted)
        words = f"missing: {', '.join(missing)}" if missing else "all that are needed"
        yield CLAIMS.G123.judged(
            not extra, f"not asked for: {', '.join(extra)}" if extra else words
        )


def has_more_than_the_role(scene: GcpScene) -> bool:
    """Returns True if the caller has permissions beyond the role that the guide grants."""
    answer = scene.reader.project_rights(MORE_THAN_THE_ROLE)
    return not answer.good or bool(answer.body.get("permissions"))


def accounts(scene: GcpScene) -> Iterator[Observation]:
    """Asks for a service account that does not exist."""
    email = f"drillyard-{secrets.token_hex(4)}@{scene.config.project}.iam.gserviceaccount.com"
    status = scene.reader.account(email).status
    if status == 403:
        granted = scene.reader.project_rights(["iam.serviceAccounts.get"])
        if not granted.good or not granted.body.get("permissions"):
            raise Untestable("iam.serviceAccounts.get is missing")
    yield CLAIMS.G125.judged(status == 404, f"HTTP {status}")


def places(scene: GcpScene) -> Iterator[Observation]:
    """Reads the first zone, its machine type, and the quotas of its region."""
    config = scene.config
    zone, name = config.zones[0], config.machine_types[0]
    place = scene.reader.compute(f"zones/{zone}")
    kind = scene.reader.compute(f"zones/{zone}/machineTypes/{name}")
    if not place.good or not kind.good:
        raise Untestable(f"{zone} or {name}: {place.message}; {kind.message}")
    cpus = kind.body.get("guestCpus")
    words = place.body.get("status")
    yield CLAIMS.G30.judged(words in ("UP", "DOWN") and bool(cpus), f"status {words}, {cpus} CPUs")
    region = scene.reader.compute(f"regions/{zone.rpartition('-')[0]}")
    listed = region.body.get("quotas") or []
    yield CLAIMS.G85.judged(bool(listed), f"{len(listed)} quotas")
    limits = {str(q.get("metric")): (float(q.get("limit", 0)), 0.0) for q in listed}
    machine = quotas.Machine(name, int(cpus or 1), spot=config.spot, disk_gb=config.disk_gb)
    metrics = set(quotas.demands(machine, 1, limits))
    missing = sorted(metrics - limits.keys())
    text = f"not listed: {', '.join(missing)}" if missing else ", ".join(sorted(metrics))
    yield CLAIMS.G80.judged(not missing, text)


def store(scene: GcpScene) -> Iterator[Observation]:
    """Writes, reads, lists and deletes objects of a few bytes."""
    key = yield from of_store(scene, CLAIMS.G91, CLAIMS.G90)
    objects = scene.mailbox.store
    room = 900 - len(key) - 1
    long = f"{key}/{'n' * room}"
    objects.put(long, b"1")
    objects.delete(long)
    yield CLAIMS.G98.holds(f"{len(long)} bytes")


READING: tuple[Probe[GcpScene], ...] = (
    Probe("clock", CLAIMS.of("G79 G134"), clock, 30.0),
    Probe("permissions", CLAIMS.of("G122 G123"), permissions, 60.0),
    Probe("service accounts", CLAIMS.of("G125"), accounts, 60.0),
    Probe("zones and quotas", CLAIMS.of("G30 G80 G85"), places, 60.0),
)
STORE: tuple[Probe[GcpScene], ...] = (
    Probe("bucket", CLAIMS.of("G90 G91 G98"), store, 120.0, creates="a few objects of some bytes"),
)
