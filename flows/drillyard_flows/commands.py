"""``drillyard run``, ``resume``, ``cancel`` and ``bench``: the commands that need Prefect.

The entry-point group ``drillyard.commands`` adds them to the command line. Nothing heavy is
imported before a command runs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from drillyard.cli import completing
from drillyard.cli.arguments import (
    FREE,
    Arguments,
    SeedsOption,
    StepsOption,
    with_arguments,
)
from drillyard.cli.common import JsonOption, StoreOption

OfflineOption = Annotated[
    bool,
    typer.Option(
        "--offline-ok",
        help="Continue if the Prefect API in PREFECT_API_URL does not answer.",
    ),
]
PrefectOption = Annotated[
    bool,
    typer.Option(
        "--no-prefect",
        help="Run without Prefect: no server and no pages, some seconds faster, the same results.",
    ),
]


NameInStore = Annotated[
    str,
    typer.Argument(
        help="Name of the experiment in the store.", autocompletion=completing.experiments
    ),
]


def register(app: typer.Typer) -> None:
    """Adds the commands to drillyard's command line.

    Args:
        app: The application.
    """
    app.command("run", context_settings=FREE)(run)
    # The same command under the name that users of an older system know.
    app.command("launch", context_settings=FREE, help="The same as `run`.")(run)
    app.command("bench")(bench)
    app.command("resume")(resume)
    app.command("cancel")(cancel)


AlgorithmOption = Annotated[
    str | None,
    typer.Option(
        "--algorithm",
        "-a",
        help="Algorithm, such as `ppo`, if you give no FILE.",
        autocompletion=completing.algorithms,
    ),
]
SimulatorOption = Annotated[
    str | None,
    typer.Option(
        "--simulator",
        "-s",
        help="Simulator, such as `CartPole-v1`, if you give no FILE.",
        autocompletion=completing.simulators,
    ),
]
FileArgument = Annotated[
    str | None,
    typer.Argument(
        help="Experiment file, YAML or JSON; or give -a and -s instead.",
        autocompletion=completing.files,
    ),
]
AllowChangeOption = Annotated[
    bool,
    typer.Option(
        "--allow-change",
        help="Continue under the same name although the experiment was changed.",
    ),
]


@with_arguments()
def run(
    file: FileArgument = None,
    algorithm: AlgorithmOption = None,
    simulator: SimulatorOption = None,
    steps: StepsOption = None,
    seeds: SeedsOption = None,
    *,
    arguments: Arguments,
    store: StoreOption = None,
    allow_change: AllowChangeOption = False,
    offline_ok: OfflineOption = False,
    no_prefect: PrefectOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run an experiment, or continue it: finished parts are not repeated.

    You can set the file's parameters by name: `--lr 0.001`. Without a file, `-a` and `-s` write a
    short one and run it.
    """
    from drillyard_flows.request import Request
    from drillyard_flows.running import run_file, run_short

    values = arguments.values()
    short = None
    if file is None:
        from drillyard_flows.without_file import short_of

        short = short_of(algorithm, simulator, name=arguments.name, steps=steps, seeds=seeds)
        file, arguments = short.file, replace(arguments, name=None)
    else:
        # A file may have parameters with these names, which then get the values.
        fields = {"algorithm": algorithm, "simulator": simulator, "steps": steps, "seeds": seeds}
        values |= {option: value for option, value in fields.items() if value is not None}
    request = Request(
        file,
        store,
        **arguments.named(),
        values=values,
        allow_change=allow_change,
        offline_ok=offline_ok,
        prefect=not no_prefect,
    )
    with arguments.as_typed():
        if short is not None:
            run_short(request, short, as_json=as_json)
        else:
            run_file(request, as_json=as_json)


@with_arguments("globals_", "tunables", "context")
def bench(
    file: Annotated[
        str,
        typer.Argument(
            help="File with `bench:`, or a study with the chooser `list`.",
            autocompletion=completing.files,
        ),
    ],
    steps: StepsOption = None,
    seeds: SeedsOption = None,
    *,
    arguments: Arguments,
    store: StoreOption = None,
    offline_ok: OfflineOption = False,
    no_prefect: PrefectOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run algorithms on simulators with several seeds, and build a page that compares them."""
    from drillyard_flows.request import Request
    from drillyard_flows.running import bench_file

    given = {"steps": steps, "seeds": seeds}
    request = Request(
        file,
        store,
        **arguments.named(),
        values={option: value for option, value in given.items() if value is not None},
        offline_ok=offline_ok,
        prefect=not no_prefect,
    )
    with arguments.as_typed():
        bench_file(request, as_json=as_json)


def resume(
    name: NameInStore,
    store: StoreOption = None,
    offline_ok: OfflineOption = False,
    no_prefect: PrefectOption = False,
    as_json: JsonOption = False,
) -> None:
    """Continue an experiment from its records in the store, without its file."""
    from drillyard_flows.request import Request
    from drillyard_flows.running import resume_name

    request = Request(
        file="", store=store, name=name, offline_ok=offline_ok, prefect=not no_prefect
    )
    resume_name(request, as_json=as_json)


def cancel(
    name: NameInStore,
    store: StoreOption = None,
    drain: Annotated[
        bool, typer.Option("--drain", help="Let running tickets finish and start no new ones.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Stop an experiment and tear down its machines. You can resume it later."""
    from drillyard_flows.running import cancel_name

    cancel_name(name, store, drain=drain, as_json=as_json)
