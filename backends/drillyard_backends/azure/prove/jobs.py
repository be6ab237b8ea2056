"""Probes of Azure that need a cluster and jobs, in the order in which they are run."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from drillyard.errors import DrillyardError
from drillyard_backends.azure import clusters, naming
from drillyard_backends.azure.errors import Exists, Missing
from drillyard_backends.azure.jobs import ENDING, OVER, Job
from drillyard_backends.azure.prove.scene import EMPTY_TAG, LEAVE, SPEAK, AzureScene
from drillyard_backends.prove.probes import Claims, Observation, Probe, Untestable, of_worker

STATES = frozenset(
    {
        *OVER,
        *ENDING,
        "NotStarted",
        "Starting",
        "Provisioning",
        "Preparing",
        "Queued",
        "Running",
        "NotResponding",
        "Paused",
        "Scheduled",
        "Unknown",
    }
)
"""Every state of a job that Azure's clients list."""
CLAIMS = Claims("""
A53? a cluster is found by its name as soon as it was made
  drillyard waits two minutes before it believes that a new cluster is missing
A55 a new cluster becomes `Succeeded`, by way of states that drillyard knows
  runs wait for the cluster until their set-up time is over; it is deleted then
A58? the tags of a cluster come back
  a lease's own cluster is found by its name instead
A7? a new job is not running yet
  nothing: the next listing corrects it
A10? a second submission of the same job starts nothing
  a job could be paid twice; results are safe
A14? a listing of jobs by a tag has the jobs with that tag, and no others
  drillyard compares the tags itself; a teardown is slower
A15? a tag with an empty value is kept
  nothing: drillyard gives every tag a value
A17 listings of jobs are at most `listing_lag_s` late
  a job that was submitted last may outlive its lease; set backends.azure.listing_lag_s to what
  was measured
A3 jobs show only states that drillyard knows
  an unknown state counts as not over: such a job is listed and cancelled
A6? the order is Queued, then Preparing, then Running
  drillyard copes with either order; `preparing_s` may count the build of the image
A35 a job whose identity is "Managed" runs as the cluster's identity
  every job fails at its first access to the store
A36? AZUREML_RUN_ID is the job's name
  nothing: drillyard passes the name in a variable of its own
A87 the image of the environment can be built, from a build folder within the limits
  every job fails before it begins, and its log says why
A93 a job gets a token and may write to the store
  every job fails at its first access to the store: give the identity the role Storage Blob
  Data Contributor on the account
A94 DEFAULT_IDENTITY_CLIENT_ID holds the id of the cluster's identity
  as A93, where the cluster has an identity of yours
A95 a job is told where it gets tokens by MSI_ENDPOINT
  as A93
A194 the worker of a job gets ready in the experiment's environment
  every job ends with the same words, and the run with the second one
A195 `requirements:` are installed from the wheels in the store
  as A194; write `python:` of the image into the settings, or choose other versions
A196 the driver of the node runs the image's torch and JAX
  as A194; the guide has a table of drivers and builds: Hardware, Drivers
A22 a cancel of a job that waits or runs is accepted
  the cluster of the lease is deleted, which ends its jobs
A23? a cancel of a job that is over or about to be is accepted, or answered with 404
  nothing: after a refusal drillyard looks at the job
A24 a cancelled job ends within ten minutes
  a node is paid until the service ends it; drillyard says so, and how to free it
A59 deleting a cluster deletes its nodes and ends its jobs
  the teardown is not believed before the listing is empty; `reap` tries again
A61 a delete of a cluster that is gone succeeds or is answered with 404
  as A59
""")
SET_UP_S = 900.0
FOUND_S, CLUSTER_S, LISTED_S = 120.0, 600.0, 120.0
START_S, TELL_S, FINISH_S, CANCEL_S, END_S = 2400.0, 300.0, 900.0, 600.0, 600.0


def cluster(scene: AzureScene) -> Iterator[Observation]:
    """Looks at the cluster that was just asked for."""
    began = scene.clock.monotonic()
    found_s = scene.until(lambda: scene.cluster() is not None, FOUND_S)
    if found_s is None:
        yield CLAIMS.A53.fails(f"not found for {FOUND_S:.0f} s")
        raise Untestable("the cluster is not found")
    late = found_s > 2.0
    yield CLAIMS.A53.judged(not late, f"found after {found_s:.0f} s", visible_s=round(found_s, 1))
    seen: set[str] = set()

    def ready() -> bool:
        now = scene.cluster()
        state = "" if now is None else now.state
        seen.add(state)
        return state in clusters.READY | clusters.BROKEN

    in_time = scene.until(ready, CLUSTER_S) is not None
    states = ", ".join(sorted(seen - {""}))
    took_s = scene.clock.monotonic() - began
    yield CLAIMS.A55.judged(
        in_time and not seen & clusters.BROKEN, f"{states}, after {took_s:.0f} s"
    )
    now = scene.cluster()
    tagged = now is not None and now.tags.get(naming.LEASE_TAG) == scene.order.lease_id
    yield CLAIMS.A58.judged(
        tagged, "they do" if tagged else "they are missing", cluster_tags=tagged
    )


def submission(scene: AzureScene) -> Iterator[Observation]:
    """Submits a job, twice, and looks for it."""
    job = scene.submit(1, SPEAK)
    early = job.status not in ("Running", *ENDING, *OVER)
    yield CLAIMS.A7.judged(early, f"the answer said {job.status}")
    lag_s = scene.until(lambda: scene.listed(job.name), LISTED_S)
    limit_s = scene.config.listing_lag_s
    if lag_s is None:
        yield CLAIMS.A17.fails(f"not listed by its tag for {LISTED_S:.0f} s")
        yield CLAIMS.A14.fails("a job with the tag is not listed")
    else:
        seen = f"listed after {lag_s:.0f} s; the setting is {limit_s:.0f} s"
        yield CLAIMS.A17.judged(lag_s <= limit_s + 2.0, seen, listing_lag_s=round(lag_s, 1))
        listed = [Job.of(each) for each in scene.service.jobs(scene.order.lease_id)]
        others = [each for each in listed if not each.of_lease(scene.order.lease_id)]
        seen_in_it = f"{len(others)} jobs without it" if others else "no other job is in it"
        yield CLAIMS.A14.judged(not others, seen_in_it, tag_filter=not others)
    kept = EMPTY_TAG in scene.tags_of(job.name)
    yield CLAIMS.A15.judged(kept, "kept" if kept else "dropped", empty_tags=kept)
    try:
        again = Job.of(scene.service.submit(job.name, scene.body(job.name, SPEAK)))
    except Exists as refusal:
        yield CLAIMS.A10.holds(f"refused: {refusal}", repeats=False)
    except DrillyardError as refusal:
        yield CLAIMS.A10.untested(f"refused for another reason: {refusal}")
    else:
        same = again.name == job.name
        yield CLAIMS.A10.judged(same, "answered with the job that is there", repeats=same)


def token(scene: AzureScene) -> Iterator[Observation]:
    """Waits until the job has written into the store."""
    name = scene.name_of(1)
    if name not in scene.jobs:
        raise Untestable("no job was submitted")
    in_time = scene.until(lambda: scene.state(name) in ("Running", *ENDING, *OVER), START_S)
    order = " -> ".join(scene.jobs[name])
    if in_time is None:
        scene.idle = f"the job did not start in {START_S:.0f} s: {order}"
        raise Untestable(scene.idle)
    if scene.over(name) and "Running" not in scene.jobs[name]:
        code, text = scene.trouble(name)
        built = "image build" not in text.lower()
        if not built:
            yield CLAIMS.A87.fails(f"{code}: {text}")
        raise Untestable(f"it ended before it ran: {order}; {code} {text}")
    yield (
        CLAIMS.A87.judged(True, "built, or there before")
        if scene.config.build
        else CLAIMS.A87.untested("the settings have no build folder")
    )
    early = scene.jobs[name].index("Running") if "Running" in scene.jobs[name] else 0
    before = scene.jobs[name][:early]
    if "Queued" in before and "Preparing" in before:
        first = before.index("Preparing") < before.index("Queued")
        yield CLAIMS.A6.judged(not first, order, preparing_first=first)
    else:
        yield CLAIMS.A6.untested(f"not all of them were seen: {order}")
    scene.until(lambda: scene.told(name) is not None or scene.over(name), TELL_S)
    wrote = scene.told(name)
    if wrote is None:
        last = scene.last_words(name)
        yield CLAIMS.A93.fails(f"the job wrote nothing; it is {scene.state(name)}: {last}")
        return
    yield CLAIMS.A93.holds("the job signed in and wrote into the store")
    yield CLAIMS.A35.holds("the job wrote into the store")
    yield CLAIMS.A36.judged(
        wrote.get("name") is True, "it is" if wrote.get("name") else "it is not"
    )
    yield CLAIMS.A95.judged(wrote.get("endpoint") is True, f"set: {bool(wrote.get('endpoint'))}")
    if scene.config.identity is None:
        yield CLAIMS.A94.untested("the settings name no identity")
    else:
        length = wrote.get("client")
        yield CLAIMS.A94.judged(length == 36, f"{length} characters")


def uses(scene: AzureScene) -> Iterator[Observation]:
    """Runs the worker of a job in what the experiment asks for."""
    if scene.idle:
        raise Untestable(scene.idle)
    first = scene.name_of(1)
    if scene.state(first) not in ("", *OVER):
        _cancelled(scene, first)
        _ended(scene, first)
    name = scene.submit(5, None).name
    claims = (CLAIMS.A194, CLAIMS.A195, CLAIMS.A196)
    last_words = lambda: f"{scene.state(name)}: {scene.last_words(name)}"  # noqa: E731
    yield from of_worker(scene, claims, SET_UP_S, lambda: scene.over(name), last_words)


def cancels(scene: AzureScene) -> Iterator[Observation]:
    """Cancels a job that runs, one that waits, and one that is over."""
    name = scene.name_of(1)
    if scene.state(name) in ("", *OVER):
        raise Untestable("no job runs")
    answers = [_cancelled(scene, name)]
    took_s = [scene.until(lambda: scene.over(name), CANCEL_S)]
    for number, state in ((2, ""), (3, "Preparing")):
        # The first one waits; the second one is being prepared, if that can be seen.
        begun = scene.submit(number, SPEAK).name
        if state:
            _reached(scene, begun, state)
        answers.append(_cancelled(scene, begun))
        took_s.append(_ended(scene, begun))
    refused = [text for accepted, text, _ in answers if not accepted]
    yield CLAIMS.A22.judged(not refused, "; ".join(text for _, text, _ in answers))
    hung = None in took_s
    took = [f"{s:.0f} s" for s in took_s if s is not None]
    over = f"not over after {CANCEL_S:.0f} s" if hung else f"over after {', '.join(took)}"
    yield CLAIMS.A24.judged(not hung, over)
    yield _of_ending(scene, name)


def _reached(scene: AzureScene, name: str, state: str) -> bool:
    """Waits until a job is in a state, or past it."""
    past = (state, "Running", *ENDING, *OVER)
    return scene.until(lambda: scene.state(name) in past, FOUND_S) is not None


def _ended(scene: AzureScene, name: str) -> float | None:
    """Seconds until a job is over; None: it is not."""
    return scene.until(lambda: scene.over(name), CANCEL_S)


def _of_ending(scene: AzureScene, name: str) -> Observation:
    """Cancels a job that is over or about to be."""
    accepted, text, status = _cancelled(scene, name)
    if accepted or status is None:
        return CLAIMS.A23.judged(accepted, text)
    return CLAIMS.A23.fails(text, cancel_status=status)


def _cancelled(scene: AzureScene, name: str) -> tuple[bool, str, int | None]:
    """Whether a cancel was accepted, in words, and the HTTP status of a refusal."""
    state = scene.state(name)
    error, status = _refusal(lambda: scene.service.cancel(name))
    if error is None:
        return True, f"{state}: accepted", None
    return status == 404, f"{state}: refused with {status or '?'}: {error}", status


def _refusal(ask: Callable[[], None]) -> tuple[Exception | None, int | None]:
    """The refusal of a request and its HTTP status; None: it was accepted."""
    try:
        ask()
    except (Missing, Exists, DrillyardError) as error:
        cause = error.__cause__
        return error, getattr(cause, "status_code", None)
    return None, None


def finishing(scene: AzureScene) -> Iterator[Observation]:
    """Lets a job end by itself, and cancels it as it ends."""
    name = scene.submit(4, LEAVE).name
    scene.until(lambda: scene.state(name) in ("Finalizing", *OVER), FINISH_S)
    if scene.state(name) == "Finalizing":
        yield _of_ending(scene, name)
    if _ended(scene, name) is None:
        raise Untestable(f"it does not end: {' -> '.join(scene.jobs[name])}")
    yield _of_ending(scene, name)


def end(scene: AzureScene) -> Iterator[Observation]:
    """Ends the lease, and looks at what remains."""
    scene.backend.teardown(scene.rented)

    def gone() -> bool:
        if scene.cluster() is None:
            return True
        scene.backend.teardown(scene.rented)
        return False

    gone_s = scene.until(gone, END_S)
    if gone_s is None:
        yield CLAIMS.A59.fails(f"the cluster is still there after {END_S:.0f} s")
        return
    open_ = [name for name in scene.jobs if scene.state(name) not in ("", *OVER)]
    states = ", ".join(f"{n.rpartition('-')[2]}: {scene.state(n)}" for n in scene.jobs)
    yield CLAIMS.A59.judged(not open_, f"gone after {gone_s:.0f} s; jobs are {states}")
    error, status = _refusal(lambda: scene.service.delete_compute(scene.cluster_name))
    yield CLAIMS.A61.judged(error is None or status == 404, f"answered with {status or 'success'}")


def states(scene: AzureScene) -> Iterator[Observation]:
    """Compares every state that was seen with those that are known."""
    seen = {state for states in scene.jobs.values() for state in states if state}
    if not seen:
        raise Untestable("no job was seen")
    unknown = sorted(seen - STATES)
    text = f"unknown: {', '.join(unknown)}" if unknown else ", ".join(sorted(seen))
    yield CLAIMS.A3.judged(not unknown, text)


JOBS: tuple[Probe[AzureScene], ...] = (
    Probe("a cluster", CLAIMS.of("A53 A55 A58"), cluster, FOUND_S + CLUSTER_S, "a cluster", True),
    Probe("a job", CLAIMS.of("A7 A17 A14 A15 A10"), submission, LISTED_S, "a job", True),
    Probe(
        "a token in a job",
        CLAIMS.of("A87 A6 A93 A35 A36 A95 A94"),
        token,
        START_S + TELL_S,
        paid=True,
    ),
    Probe(
        "what the experiment uses",
        CLAIMS.of("A194 A195 A196"),
        uses,
        CANCEL_S + SET_UP_S,
        "a job",
        True,
        "experiment",
    ),
    Probe(
        "cancels",
        CLAIMS.of("A22 A24 A23"),
        cancels,
        FOUND_S + 3 * CANCEL_S,
        "two jobs",
        True,
        "account",
    ),
    Probe(
        "a job that ends",
        CLAIMS.of("A23"),
        finishing,
        FINISH_S + CANCEL_S,
        "a job",
        True,
        "account",
    ),
    Probe("the end", CLAIMS.of("A59 A61"), end, END_S, paid=True),
    Probe("states", CLAIMS.of("A3"), states, 0.0, paid=True),
)
