"""Product code runs no data, starts no shell and loads no pickle: docs/explanation/security.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.helpers.sources import ROOT, nodes, product

EMULATORS = ROOT / "backends/drillyard_emulators"
"""They play the clouds on this machine, and are no part of what users run."""
PICKLES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
BUILT_IN = {"eval", "exec", "compile", "__import__"}
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
LOADS = {"load_model", "load_replay_buffer", "unsafe_load", "full_load", "read_pickle"}
MODELS = {"VecNormalize", "PPO", "A2C", "DQN", "SAC", "TD3", "DDPG", "BaseAlgorithm"}
"""Classes of Stable-Baselines3 whose `load` unpickles."""
IMPORTS = {
    "src/drillyard/__init__.py": "its own public names",
    "src/drillyard/cli/main.py": "its own commands",
    "src/drillyard/registry.py": "the registry: the kind of what is found is checked",
    "src/drillyard/simulators/classes.py": "packages that register simulators with Gymnasium",
    "src/drillyard/authoring/scaffold/looking.py": "the file that the user names on the line",
    "src/drillyard/learners/sb3_build.py": "a class of the installed library",
    "src/drillyard/testing/workload_suite.py": "the suite of plug-ins",
    "src/drillyard/worker/preload.py": "a fixed list",
    "backends/drillyard_backends/gcp/operations.py": "a fixed name",
}
"""Where a module is imported by a name that is computed, and what the name is."""
UNPACKS = {
    "backends/drillyard_backends/from_wheel.py": "our own wheel, after its hash",
    "src/drillyard/simulators/fmu/archive.py": "an FMU, after a check of names, links and size",
}


def dotted(node: ast.expr) -> str:
    """``os.system`` of ``os.system(...)``; the last part alone where the rest is no name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join(reversed([*parts, node.id] if isinstance(node, ast.Name) else parts))


def says(call: ast.Call, name: str, value: object) -> bool:
    """Whether the call has the literal keyword argument."""
    return any(
        k.arg == name and isinstance(k.value, ast.Constant) and k.value.value is value
        for k in call.keywords
    )


def problems(module: list[ast.AST], file: str) -> Iterator[str]:
    """What must not be there, by its line."""
    for node in module:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            for name in names:
                if (name or "").partition(".")[0] in PICKLES:
                    yield f"{file}:{node.lineno}: imports {name}"
        if not isinstance(node, ast.Call):
            continue
        called, at = dotted(node.func), f"{file}:{node.lineno}"
        owner, _, last = called.rpartition(".")
        if called in BUILT_IN and not (called == "__import__" and file in IMPORTS):
            yield f"{at}: {called}"
        if called in SHELLS or says(node, "shell", True):
            yield f"{at}: a shell"
        if called == "torch.load" and not says(node, "weights_only", True):
            yield f"{at}: torch.load without weights_only=True"
        if called in ("np.load", "numpy.load") and not says(node, "allow_pickle", False):
            yield f"{at}: np.load without allow_pickle=False"
        if last in LOADS or (last == "load" and owner.rpartition(".")[2] in MODELS):
            yield f"{at}: {called} unpickles"
        if called in ("yaml.load", "yaml.load_all"):
            yield f"{at}: {called} builds objects"
        if last == "YAML" and any(
            k.arg == "typ" and isinstance(k.value, ast.Constant) and k.value.value == "unsafe"
            for k in node.keywords
        ):
            yield f"{at}: an unsafe YAML reader"
        if last in ("extractall", "unpack_archive") and file not in UNPACKS:
            yield f"{at}: {last} without limits"
        if last == "import_module" and file not in IMPORTS:
            yield f"{at}: imports by a computed name"


def test_product_code_has_none():
    modules = {p: module for p, module in product().items() if EMULATORS not in p.parents}
    found = [
        problem
        for path, module in modules.items()
        for problem in problems(module, str(path.relative_to(ROOT)))
    ]
    assert len(modules) > 300 and found == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from cloudpickle import loads",
        "eval(text)",
        "exec(text)",
        "__import__(name)",
        "os.system(line)",
        "subprocess.run(line, shell=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "PPO.load(path)",
        "stable_baselines3.VecNormalize.load(path, env)",
        "model.load_replay_buffer(path)",
        "mlflow.pyfunc.load_model(uri)",
        "yaml.load(text)",
        "ruamel.yaml.YAML(typ='unsafe')",
        "tarfile.open(path).extractall(folder)",
        "shutil.unpack_archive(path)",
        "importlib.import_module(name)",
    ],
)
def test_each_of_them_is_found(code):
    assert len(list(problems(nodes(code), "some.py"))) == 1


def test_exceptions_are_needed():
    """A file that no longer needs its exception must lose it."""
    for file in (*IMPORTS, *UNPACKS):
        assert list(problems(nodes((ROOT / file).read_text()), "some.py")), file
