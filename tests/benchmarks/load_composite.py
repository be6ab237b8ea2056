"""Load and explain a composite of 50 children with 1,000 parameters.

    python -m tests.benchmarks.load_composite

Prints seconds, best and worst of five; whole processes of ``drillyard explain`` beside them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHILDREN, EACH = 50, 20
TARGET_S = 1.0


def text(children: int = CHILDREN, each: int = EACH) -> str:
    """The file: every other parameter of a child refers to one of the parent or of its own."""
    lines = ["name: large", "workload: composite", "parameters:", "  const_args:"]
    lines += [f"    shared_{n}: value-{n}-$experiment_id" for n in range(each)]
    lines.append("children:")
    for child in range(children):
        lines += [f"  - name: child-{child}", "    workload: mock", "    prefix: true"]
        lines += ["    parameters:", "      required_args: [shared_0]", "      const_args:"]
        for n in range(each - 1):
            lines.append(f"        p_{n}: {n if n % 2 else f'$shared_{n}/$trial_id/$own'}")
        lines.append("        own: own-$shared_1")
    return "\n".join(lines) + "\n"


def measure(file: Path) -> float:
    """Seconds to load the file and to lay out every value with its origin."""
    from drillyard.authoring.explain import runs, tree, values
    from drillyard.spec.load import load

    began = time.perf_counter()
    loaded = load(file)
    rows = values(loaded)
    given = runs(loaded)
    shown = tree(loaded, given[0]["parameters"])
    seconds = time.perf_counter() - began
    assert len(rows) > CHILDREN * EACH
    assert len(shown["children"]) == CHILDREN
    assert given[0]["parameters"]["shared_3"] == "value-3-large"
    own = loaded.spec.children[7].parameters.const_args
    assert own["p_2"] == "value-2-large/1/own-value-1-large"
    return seconds


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "large.yaml"
        file.write_text(text())
        found = sorted(measure(file) for _ in range(5))
        began = time.perf_counter()
        explain = "import sys; from drillyard.cli.main import main; sys.exit(main(sys.argv[1:]))"
        subprocess.run(
            [sys.executable, "-c", explain, "explain", str(file)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        whole = time.perf_counter() - began
    print(
        f"{CHILDREN} children, {CHILDREN * EACH:,} parameters: load and explain "
        f"{found[0]:.2f} s (worst {found[-1]:.2f} s; target < {TARGET_S:g} s); "
        f"the whole process of `drillyard explain` {whole:.2f} s"
    )


if __name__ == "__main__":
    main()
