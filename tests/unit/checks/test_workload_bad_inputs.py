"""Files of script, mock and composite that cannot work: each is refused, with field and words."""

import pytest

from drillyard.checks.experiment import check
from drillyard.errors import UserError
from drillyard.spec.load import load

HEAD = "schema: 1\nname: bad\n"

BAD = {
    "script without script": ("workload: script", "needs `script:`"),
    "no run": ("workload: script\nscript: {setup: [ls]}", "script.run: is missing"),
    "no line in run": ("workload: script\nscript: {run: []}", "script.run"),
    "an empty line": ("workload: script\nscript: {run: ['']}", "empty command"),
    "an open quote": ("workload: script\nscript: {run: ['echo \"a']}", "cannot be split"),
    "a line that is a number": ("workload: script\nscript: {run: [1]}", "script.run"),
    "a text for a list": ("workload: script\nscript: {run: ls}", "script.run"),
    "unknown key": ("workload: script\nscript: {run: [ls], comand: x}", "comand"),
    "unknown key of results": (
        "workload: script\nscript: {run: [ls], results: {sdtout: x}}",
        "sdtout",
    ),
    "bad pattern": (
        "workload: script\nscript: {run: [ls], results: {stdout: '('}}",
        "not a regular expression",
    ),
    "one group": (
        "workload: script\nscript: {run: [ls], results: {stdout: '(a)b'}}",
        "has 1 groups; two are needed",
    ),
    "results of another kind": (
        "workload: script\nscript: {run: [ls], results: {file: r.xlsx}}",
        "not a .csv or .json file",
    ),
    "results outside": (
        "workload: script\nscript: {run: [ls], results: {file: ../r.csv}}",
        "inside the working folder",
    ),
    "upload from outside": (
        "workload: script\nscript: {run: [ls], upload: [{from: /etc, to: x}]}",
        "inside the working folder",
    ),
    "download to outside": (
        "workload: script\nscript: {run: [ls], download: [{from: x, to: ../y}]}",
        "inside the working folder",
    ),
    "words in a shell": (
        "workload: script\nscript: {shell: true, run: [[ls, -l]]}",
        "is a list of words",
    ),
    "no time": ("workload: script\nscript: {run: [ls], max_time_s: 0}", "max_time_s"),
    "a variable that is none": (
        "workload: script\nscript: {run: [ls], environment: {rename: {a: '1 b'}}}",
        "not a valid name of an environment variable",
    ),
    "an unknown name": ("workload: script\nscript: {run: ['echo $nothing']}", "not declared"),
    "an unknown parameter": (
        "workload: script\nscript: {run: [ls], environment: {parameters: [lr]}}",
        "no parameter 'lr'",
    ),
    "a script for a mock": ("workload: mock\nscript: {run: [ls]}", "has no `script:`"),
    "a script for rl": (
        "simulator: {id: cstr}\nlearner: {algorithm: ppo}\ntrain: {steps: 9}\nscript: {run: [ls]}",
        "has no `script:`",
    ),
    "a falling range": ("workload: mock\nmock: {range: [1, 0]}", "must be greater"),
    "a metric twice": ("workload: mock\nmock: {metrics: [a, a]}", "one twice"),
    "noise below 0": ("workload: mock\nmock: {noise: -1}", "mock.noise"),
    "a seed that is no seed": ("workload: mock\nmock: {seed: sometimes}", "mock.seed"),
    "no children": ("workload: composite", "needs `children:`"),
    "an empty list of children": ("workload: composite\nchildren: []", "needs `children:`"),
    "a child without a name": (
        "workload: composite\nchildren: [{workload: mock}]",
        "children[0].name: is missing",
    ),
    "a child with a bad name": (
        "workload: composite\nchildren: [{name: 'A b', workload: mock}]",
        "not a valid name of a child",
    ),
    "two of one name": (
        "workload: composite\nchildren: [{name: a, workload: mock}, {name: a, workload: mock}]",
        "two children are called 'a'",
    ),
    "a child's file that is not there": (
        "workload: composite\nchildren: [nothing.yaml]",
        "nothing.yaml",
    ),
    "seeds of a child": (
        "workload: composite\nchildren: [{name: a, workload: mock, seeds: []}]",
        "seeds",
    ),
    "an unknown workload of a child": (
        "workload: composite\nchildren: [{name: a, workload: mok}]",
        "mok",
    ),
    "a script child without run": (
        "workload: composite\nchildren: [{name: a, workload: script, script: {}}]",
        "children[0].script.run: is missing",
    ),
    "a child's missing parameter": (
        "workload: composite\nchildren: [{name: a, workload: mock, "
        "parameters: {required_args: [size]}}]",
        "size",
    ),
    "a clash that the file shows": (
        "workload: composite\nchildren: [{name: a, workload: mock}, {name: b, workload: mock}]",
        "both have the metric 'score'",
    ),
}


@pytest.mark.parametrize(("text", "words"), BAD.values(), ids=BAD)
def test_refused(tmp_path, text, words):
    file = tmp_path / "bad.yaml"
    file.write_text(HEAD + text + "\n")
    try:
        findings = check(load(file), store=str(tmp_path / "store"))
    except UserError as error:
        said, hint = str(error), error.hint
    else:
        errors = [f for f in findings if f.severity == "error"]
        assert errors, [f"{f.subject}: {f.message}" for f in findings]
        said = "\n".join(f"{f.subject}: {f.message}" for f in errors)
        hint = errors[0].fix
    assert words in said, said
    assert hint, "every refusal says what to do"
    assert not (tmp_path / "store").exists()
