"""Probes of Google Cloud that need machines, in the order in which they are run."""

from __future__ import annotations

from collections.abc import Iterator

from drillyard.errors import DrillyardError
from drillyard_backends.gcp import naming, rights
from drillyard_backends.gcp.errors import Exists, InUse, Missing
from drillyard_backends.gcp.prove.reading import has_more_than_the_role
from drillyard_backends.gcp.prove.scene import GcpScene
from drillyard_backends.gcp.zones import Place
from drillyard_backends.prove.probes import Claims, Observation, Probe, Untestable, of_worker

ACTIONS = frozenset(
    {
        "",
        "ABANDONING",
        "CREATING",
        "CREATING_WITHOUT_RETRIES",
        "DELETING",
        "NONE",
        "RECREATING",
        "REFRESHING",
        "RESTARTING",
        "RESUMING",
        "STARTING",
        "STOPPING",
        "SUSPENDING",
        "VERIFYING",
    }
)
ENDED = frozenset({"STOPPED", "SUSPENDED", "TERMINATED"})
STATUSES = frozenset(
    {
        "",
        "DEPROVISIONING",
        "PENDING",
        "PENDING_STOP",
        "PROVISIONING",
        "REPAIRING",
        "RUNNING",
        "STAGING",
        "STOPPING",
        "SUSPENDING",
        *ENDED,
    }
)
"""``currentAction`` and ``instanceStatus`` of Google's discovery document, and no value."""

CLAIMS = Claims("""
G45 a template or group whose name is taken is refused as existing
  drillyard tries a zone without success; nothing is left
G11 createInstances is refused when a name is taken
  after a lost answer a second machine of one name can come; one of the two is removed
G1 machines show only states that drillyard knows
  an unknown state proves nothing to drillyard, so a lost machine may be replaced late
G26 labels of the template are on the machines
  `reap` does not find machines by label; it still finds groups by name
G28 machines can be listed by label
  as G26
G52 listings of the whole project are at most `listing_lag_s` late
  a teardown may be confirmed too early; set backends.gcp.listing_lag_s to what was measured
G35 a machine's own metadata is there before its start-up script runs
  machines do not know their group, end after a minute, and cost until then
G101 the machines' service account can write to the bucket
  every machine ends at its first request; grant the role that `plan` names
G144 a machine gets a token from its metadata server
  machines can neither work nor end themselves: they power off after ten minutes
G145 the start-up script runs by itself, and the image has what it needs
  machines do nothing until their time limit
G151 the image has bash, curl, sha256sum and python3
  as G145
G141 the number in a machine's metadata is the one in listings
  a machine does not find itself; an empty group stays, at no cost, until `reap`
G60 a template that a group uses cannot be deleted
  templates go before their groups; nothing is left
G191 the worker gets ready on a machine of the experiment's image or container
  every machine ends with the same words, and the run with the second one
G192 `requirements:` are installed from the wheels in the store
  as G191; write `python:` of the image into the settings, or choose other versions
G193 the driver of the machine runs the image's torch and JAX
  as G191; the guide has a table of drivers and builds: Hardware, Drivers
G24 simulateMaintenanceEvent takes a Spot machine away
  only `simulate-preemption` and this proof use it
G5 a Spot machine that was taken away stays in its group's listing, without a status
  drillyard copes with a row that disappears; a group that makes the machine again by itself
  ignores `replacements`
G131 a machine deletes itself, and its group does not make it again
  machines without work stay until the driver, `reap` or their time limit ends them
G42 deleting a group deletes all its machines
  machines outside groups are deleted by themselves; the listing confirms their end
G120 the permissions of drillyard's role are enough to rent and to end
  requests are refused as forbidden; `reap` by a person with more rights ends what is left
""")
SET_UP_S = DRIVER_S = 900.0
START_S, BOOT_S, SOON_S, PREEMPT_S, LEAVE_S, END_S = 240.0, 600.0, 60.0, 180.0, 300.0, 300.0


def make(scene: GcpScene) -> Iterator[Observation]:
    """Makes everything once more under the same names."""
    if scene.until(lambda: _placed(scene), START_S) is None:
        raise Untestable("no group of the lease has machines")
    place, name = scene.group
    template = scene.groups.template(name)
    resource = {"description": template.description, "properties": template.properties}
    try:
        scene.compute.change(
            f"create template {name} again",
            "InstanceTemplates.insert_unary",
            None,
            instance_template_resource={"name": name, **resource},
        )
    except Exists as refusal:
        yield CLAIMS.G45.holds(f"refused: {refusal}")
    else:
        yield CLAIMS.G45.fails("a second template of that name was accepted")
    machine = naming.Machine(0).name(name)
    kind = "region_" if place.regional else ""
    body = {"instances": [{"name": machine}]}
    try:
        scene.compute.change(
            f"create {machine} again",
            "InstanceGroupManagers.create_instances_unary",
            place,
            instance_group_manager=name,
            **{f"{kind}instance_group_managers_create_instances_request_resource": body},
        )
    except (Exists, InUse, DrillyardError) as refusal:
        # Another refusal (no room, a busy service) says nothing about names.
        taken = isinstance(refusal, Exists) or "already exist" in str(refusal)
        text = f"refused: {refusal}"
        yield CLAIMS.G11.holds(text) if taken else CLAIMS.G11.untested(text)
    else:
        yield CLAIMS.G11.fails("a second machine of that name was accepted")


def _placed(scene: GcpScene) -> bool:
    try:
        return bool(scene.group)
    except Untestable:
        return False


def listing(scene: GcpScene) -> Iterator[Observation]:
    """Compares the listing of the project with that of the group."""

    def numbered() -> bool:
        row = scene.row(0)
        return row is not None and bool(row.number and row.status)

    if scene.until(numbered, START_S) is None:
        scene.idle = "no machine was created: no capacity, or no quota"
        raise Untestable(scene.idle)
    row = scene.row(0)
    name = "" if row is None else row.name
    lag_s = scene.until(lambda: name in {i.name for i in scene.instances()}, 2 * SOON_S)
    if lag_s is None:
        yield CLAIMS.G28.fails("the machine is not in the listing by its label")
        raise Untestable("the machine is not in the listing by its label")
    yield CLAIMS.G28.holds("the machine is in the listing by its label")
    labels = {i.name: dict(i.labels) for i in scene.instances()}.get(name, {})
    expected = naming.labels(scene.order, scene.config.labels)
    missing = sorted(key for key in expected if key not in labels)
    yield CLAIMS.G26.judged(
        not missing, f"missing: {', '.join(missing)}" if missing else "all labels"
    )
    limit_s = scene.config.listing_lag_s
    seen = f"listed {lag_s:.0f} s after its group had it; the setting is {limit_s:.0f} s"
    lag: dict[str, float] = dict.fromkeys(
        ("listing_lag_s", "listing_lag_least_s"), round(lag_s, 1)
    )
    yield CLAIMS.G52.judged(lag_s <= limit_s + 2.0, seen, **lag)


def boot(scene: GcpScene) -> Iterator[Observation]:
    """Waits until both machines have written into the store."""
    if scene.idle:
        raise Untestable(scene.idle)
    names = {r.name for r in scene.rows() or []}
    if not names:
        raise Untestable("no machine is listed now")
    began = scene.clock.monotonic()

    def decided() -> bool:
        scene.last_words = _last_words(scene) or scene.last_words
        return all(scene.started(name) for name in names) or not scene.rows()

    # Some images install the driver of a GPU first; the end of the paid time limits it anyway.
    scene.until(decided, BOOT_S + (DRIVER_S if scene.order.gpus else 0.0))
    together = CLAIMS.of("G35 G101 G144 G145 G151")
    mute = sorted(name for name in names if not scene.started(name))
    if mute:
        after_s = scene.clock.monotonic() - began
        silent = f"{len(mute)} of {len(names)} machines wrote nothing in {after_s:.0f} s"
        for claim in together:
            yield claim.fails(f"{silent}; the last lines of its serial port: {scene.last_words}")
        return
    for claim in together:
        yield claim.holds(f"{len(names)} machines began and wrote into the bucket")
    numbers = {r.name: r.number for r in scene.rows() or []}
    wrong = [n for n in names if (s := scene.started(n)) and s.number != numbers.get(n)]
    yield CLAIMS.G141.judged(not wrong, "other numbers" if wrong else "the same numbers")


def _last_words(scene: GcpScene) -> str:
    """The end of what a machine printed; empty where that cannot be read."""
    row = scene.row(0)
    if row is None or not row.zone:
        return ""
    try:
        text = scene.groups.serial(Place(row.zone), row.name) or ""
    except (DrillyardError, Exists, InUse, Missing):
        return ""
    return " | ".join(line.strip() for line in text.splitlines()[-5:])[-500:]


def uses(scene: GcpScene) -> Iterator[Observation]:
    """Waits for the worker of the machine that has what the experiment asks for."""
    if scene.idle:
        raise Untestable(scene.idle)

    def ended() -> bool:
        scene.last_words = _last_words(scene) or scene.last_words
        return not scene.rows()

    claims = (CLAIMS.G191, CLAIMS.G192, CLAIMS.G193)
    yield from of_worker(scene, claims, SET_UP_S, ended, lambda: scene.last_words)


def in_use(scene: GcpScene) -> Iterator[Observation]:
    """Asks for the end of the template that the group uses."""
    deleted = scene.groups.delete_template(scene.group[1])
    yield CLAIMS.G60.judged(
        not deleted, "deleted under its group" if deleted else "refused: in use"
    )


def preemption(scene: GcpScene) -> Iterator[Observation]:
    """Lets Google take a machine away."""
    if not scene.spot:
        raise Untestable("the settings have no Spot machines")

    def runs() -> bool:
        row = scene.row(0)
        return row is not None and row.status == "RUNNING"

    row = scene.row(0) if scene.until(runs, BOOT_S) is not None else None
    if row is None:
        raise Untestable("no machine is running")
    scene.groups.preempt(Place(row.zone), row.name)
    number = row.number
    seen: list[str] = []

    def gone() -> bool:
        now = scene.row(0)
        if now is None:
            seen.append("the row disappeared")
        elif now.number != number and now.status:
            seen.append("the group made the machine again")
        elif not now.status or now.status in ENDED:
            seen.append(f"the row stays, with action {now.action} and status {now.status!r}")
        return bool(seen)

    took_s = scene.until(gone, PREEMPT_S)
    yield CLAIMS.G24.judged(
        took_s is not None, "taken away" if took_s is not None else "it runs on"
    )
    if seen:
        stays = seen[0].startswith("the row stays")
        yield CLAIMS.G5.judged(stays, seen[0], lost_stay_listed=stays)


def leave(scene: GcpScene) -> Iterator[Observation]:
    """Waits until a machine without work has ended itself."""
    index = scene.order.workers - 1
    name = naming.Machine(index).name(scene.group[1])
    if scene.started(name) is None:
        raise Untestable("the machine never began")

    def left() -> bool:
        row = scene.row(index)
        return row is None or row.action == "DELETING" or row.status in ("", "STOPPING")

    took_s = scene.until(left, scene.config.idle_s / scene.pace + LEAVE_S)
    if took_s is None:
        yield CLAIMS.G131.fails("it is still there")
        return
    number = {i.name: str(i.id) for i in scene.instances()}.get(name)
    scene.until(lambda: False, 10.0)
    again = {i.name: str(i.id) for i in scene.instances()}.get(name)
    made_again = again is not None and again != number
    yield CLAIMS.G131.judged(not made_again, "made again" if made_again else "it ended itself")


def end(scene: GcpScene) -> Iterator[Observation]:
    """Ends the lease, and looks at what remains."""
    group = scene.group
    scene.backend.teardown(scene.rented)
    gone_s = scene.until(lambda: scene.rows() is None, END_S)
    if gone_s is None:
        raise Untestable(f"the group is still there after {END_S:.0f} s")
    left_s = scene.until(lambda: not list(scene.instances()), END_S)
    if left_s is None:
        yield CLAIMS.G42.fails(
            f"machines of {group[1]} are listed {END_S:.0f} s after their group went"
        )
    else:
        yield CLAIMS.G42.holds(f"no machine is listed {left_s:.0f} s after the group went")
    more = has_more_than_the_role(scene)
    role = f"{len(rights.DRIVER)} permissions were enough"
    yield (
        CLAIMS.G120.untested("this login has more permissions than the role")
        if more
        else CLAIMS.G120.holds(role)
    )


def states(scene: GcpScene) -> Iterator[Observation]:
    """Compares every state that was seen with those that are known."""
    if not scene.words:
        raise Untestable("no machine was seen")
    unknown = sorted(
        {f"action {a}" for a, _ in scene.words if a not in ACTIONS}
        | {f"status {s}" for _, s in scene.words if s not in STATUSES}
    )
    seen = ", ".join(sorted(f"{a or '-'}/{s or '-'}" for a, s in scene.words))
    yield CLAIMS.G1.judged(not unknown, f"unknown: {', '.join(unknown)}" if unknown else seen)


MACHINES: tuple[Probe[GcpScene], ...] = (
    Probe(
        "names that are taken",
        CLAIMS.of("G45 G11"),
        make,
        START_S,
        "group, template, machines",
        True,
    ),
    Probe("listings", CLAIMS.of("G26 G28 G52"), listing, START_S + 2 * SOON_S, paid=True),
    Probe(
        "a token on a machine", CLAIMS.of("G35 G101 G144 G145 G151 G141"), boot, BOOT_S, paid=True
    ),
    Probe(
        "what the experiment uses",
        CLAIMS.of("G191 G192 G193"),
        uses,
        SET_UP_S,
        paid=True,
        only="experiment",
    ),
    Probe("a template in use", CLAIMS.of("G60"), in_use, SOON_S, paid=True),
    Probe("preemption", CLAIMS.of("G24 G5"), preemption, PREEMPT_S, paid=True, only="account"),
    Probe("a machine ends itself", CLAIMS.of("G131"), leave, 60.0 + LEAVE_S + 10.0, paid=True),
    Probe("the end", CLAIMS.of("G42 G120"), end, 2 * END_S, paid=True),
    Probe("states", CLAIMS.of("G1"), states, 0.0, paid=True),
)
