"""The catalogue of bad inputs as rows: a file, and what must be said about it."""

import dataclasses

BASE = """\
name: bad
simulator: {id: cstr}
learner:
  algorithm: ppo
  args: {gamma: 0.9}
train:
  steps: 10_000
"""


BIG = 10**18


@dataclasses.dataclass
class Row:
    """One bad input.

    Attributes:
        text: The file; or ``(old, new)`` applied to ``BASE``.
        line: Line that must be named; None where a line makes no sense.
        field: Dotted path that must be named.
        words: What the message must contain besides.
        value: What must be shown as the value.
        code: Exit code; 4 where nothing is wrong but that a server is away.
    """

    number: int
    text: object
    line: int | None = None
    field: str | None = None
    words: list[str] = dataclasses.field(default_factory=list)
    value: str | None = None
    args: list[str] = dataclasses.field(default_factory=list)
    suffix: str = ".yaml"
    code: int = 2
    files: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def body(self):
        if isinstance(self.text, tuple):
            old, new = self.text
            assert old in BASE
            return BASE.replace(old, new)
        return self.text


def learner(args, algorithm="ppo", more=""):
    return (
        "  algorithm: ppo\n  args: {gamma: 0.9}\n",
        f"  algorithm: {algorithm}\n  args: {{{args}}}\n{more}",
    )


def arg(number, text, name, words=(), value=None, algorithm="ppo"):
    return Row(number, learner(text, algorithm), 5, f"learner.args.{name}", list(words), value)


def option(number, text, words=(), value=None):
    """A row about an argument of the simulator."""
    change = "{id: cstr}", f"{{id: cstr, args: {{{text}}}}}"
    name = text.partition(":")[0]
    return Row(number, change, 2, f"simulator.args.{name}", list(words), value)


def named(number, text, words, value=None):
    """A row about the name of the experiment."""
    return Row(number, ("name: bad", f"name: {text}"), 1, "name", words, value)


def added(number, text, field, words, value=None):
    """A row about a line after the others."""
    return Row(number, f"{BASE}{text}\n", 8, field, words, value)


STEPS = "  steps: 10_000\n"


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)


BROKEN = """
import gymnasium as gym
import numpy as np


class Base(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), 0.0, False, False, {}


class NoInfo(Base):
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32)


class Nan(Base):
    def step(self, action):
        return np.array([0.0, np.nan], np.float32), 0.0, False, False, {}


class Shape(Base):
    def step(self, action):
        return np.zeros(3, np.float32), 0.0, False, False, {}


class Dicts(Base):
    observation_space = gym.spaces.Dict({"a": gym.spaces.Box(-1, 1, (2,), np.float32)})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {"a": np.zeros(2, np.float32)}, {}

    def step(self, action):
        return {"a": np.zeros(2, np.float32)}, 0.0, False, False, {}


class Image(Base):
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(self.observation_space.shape, self.observation_space.dtype), {}

    def step(self, action):
        space = self.observation_space
        return np.zeros(space.shape, space.dtype), 0.0, False, False, {}


class FloatImage(Image):
    observation_space = gym.spaces.Box(0, 1, (40, 40, 3), np.float32)


class OddImage(Image):
    observation_space = gym.spaces.Box(0, 255, (40, 3, 40), np.uint8)


class NotASimulator:
    pass
"""


def world(number, name, words, policy=None):
    more = f"  policy: {policy}\n" if policy else ""
    text = BASE.replace("id: cstr", f"id: 'broken_world:{name}'").replace(
        "  args: {gamma: 0.9}\n", more
    )
    field = "learner.policy" if number == 33 else "simulator.id"
    value = policy if number == 33 else f"broken_world:{name}"
    line = 5 if number == 33 else 2
    return Row(number, text, line, field, words, value, files={"broken_world.py": BROKEN})


ROWS = [
    Row(1, "", 1, None, ["is empty", "a mapping of keys"]),
    Row(1, "# only a comment\n", 1, None, ["is empty"]),
    Row(2, ("  steps: 10_000", "\tsteps: 10_000"), 7, None, ["column 1", "tab", "spaces"]),
    Row(2, ("{id: cstr}", "{id: cstr"), 3, None, ["not YAML"]),
    Row(2, '{"name": "x",, }', 1, None, ["not JSON"], suffix=".json"),
    Row(3, "- a\n- b\n", 1, None, ["expected a mapping of keys, found a list"]),
    Row(3, "42\n", 1, None, ["expected a mapping of keys"]),
    Row(4, BASE + "seeds: [1]\nseeds: [2]\n", 9, "seeds", ["line 8", "line 9"]),
    Row(
        4,
        '{"name": "x",\n"seeds": [1],\n"seeds": [2]}',
        3,
        "seeds",
        ["line 2", "line 3"],
        suffix=".json",
    ),
    arg(5, "learnig_rate: 0.1", "learnig_rate", ["did you mean 'learning_rate'"]),
    added(5, "simulater: {id: cstr}", "simulater", ["did you mean 'simulator'"]),
    added(5, "algo: ppo", "algo", ["did you mean 'learner.algorithm'"]),
    added(5, "env_id: cstr", "env_id", ["did you mean 'simulator.id'"]),
    added(5, "total_timesteps: 5", "total_timesteps", ["did you mean 'train.steps'"]),
    Row(5, (STEPS, "  n_timesteps: 5\n"), 7, "train.n_timesteps", ["did you mean 'train.steps'"]),
    added(5, "seed: 1", "seed", ["did you mean 'seeds'"]),
    Row(
        5,
        ("  args: {gamma: 0.9}", "  gamma: 0.9"),
        5,
        "learner.gamma",
        ["did you mean 'learner.args.gamma'"],
    ),
    arg(5, "lr: 0.1", "lr", ["did you mean 'learner.args.learning_rate'"]),
    Row(5, BASE, None, "train.stepz", ["did you mean 'steps'"], args=["--set", "train.stepz=3"]),
    Row(5, BASE, None, None, ["--lr", "no parameters are declared"], args=["--lr", "3"]),
    arg(7, 'learning_rate: "abc"', "learning_rate", value="abc"),
    Row(7, (STEPS, "  steps: many\n"), 7, "train.steps", ["whole number"], "many"),
    arg(8, "learning_rate: .nan", "learning_rate", ["not a number"], "nan"),
    arg(9, "learning_rate: .inf", "learning_rate", ["finite"], "inf"),
    arg(10, "learning_rate: 0", "learning_rate", value="0"),
    arg(10, "learning_rate: -1e-3", "learning_rate", value="-0.001"),
    arg(11, "learning_rate: 1e400", "learning_rate", ["out of the range"]),
    arg(12, "gamma: 1.5", "gamma", ["1"], "1.5"),
    Row(13, (STEPS, "  steps: 0\n"), 7, "train.steps", ["whole number"], "0"),
    Row(13, (STEPS, "  steps: -5\n"), 7, "train.steps", ["whole number"], "-5"),
    Row(14, (STEPS, "  steps: 1.5\n"), 7, "train.steps", ["whole number"], "1.5"),
    Row(15, (STEPS, f"  steps: {BIG}\n"), 7, "train.steps", ["10000000000", "years"], str(BIG)),
    Row(16, (STEPS, STEPS + "  n_envs: 0\n"), 8, "train.n_envs", ["from 1"], "0"),
    Row(17, (STEPS, STEPS + "  n_envs: 100000\n"), 8, "train.n_envs", ["4096", "cores"], "100000"),
    arg(18, "batch_size: 4096, n_steps: 128", "batch_size", ["128"], "4096"),
    arg(19, "batch_size: 100, n_steps: 128", "batch_size", ["128"], "100"),
    Row(
        20,
        learner("n_steps: 1, batch_size: 1", more="  preset: null\n"),
        5,
        "learner.args.n_steps",
        value="1",
    ),
    Row(21, learner("buffer_size: 1e15", "sac"), 5, None, ["learner.args.buffer_size", "GiB"]),
    arg(22, "learning_starts: 20000", "learning_starts", ["10000"], "20000", "sac"),
    added(23, "seeds: [-1]", "seeds[0]", ["from 0 to 4294967295"], "-1"),
    Row(23, BASE + f"seeds: [{2**40}]\n", 8, "seeds[0]", ["from 0 to 4294967295"], str(2**40)),
    added(23, "seeds: [true]", "seeds[0]", ["expected a number"], "True"),
    added(23, "seeds: 3", "seeds", ["expected a list", "[1, 2, 3]"], "3"),
    added(24, "seeds: [1, 1, 2]", "seeds", ["seed 1 is listed twice"]),
    Row(25, learner("", "PPOO"), 4, "learner.algorithm", ["did you mean 'ppo'", "sac"], "ppoo"),
    Row(
        26,
        ("algorithm: ppo", "algorithm: [PPO]"),
        4,
        "learner.algorithm",
        ["expected text"],
        "PPO",
    ),
    Row(27, learner("", "dqn"), 4, "learner.algorithm", ["Box", "Discrete", "ppo"], "dqn"),
    Row(
        28,
        BASE.replace("cstr", "CartPole-v1").replace("ppo", "sac"),
        4,
        "learner.algorithm",
        ["Discrete(2)", "needs Box", "dqn"],
        "sac",
    ),
    Row(29, ("cstr", "CartPole-v99"), 2, "simulator.id", ["CartPole-v1"], "CartPole-v99"),
    Row(30, ("cstr", "'os:system'"), 2, "simulator.id", ["gymnasium.Env"], "os:system"),
    Row(
        30,
        ("cstr", "'no_such_module:World'"),
        2,
        "simulator.id",
        ["beside the experiment file"],
        "no_such_module:World",
    ),
    Row(
        30,
        BASE,
        None,
        "simulator.id",
        ["gymnasium.Env"],
        "os:system",
        args=["--set", "simulator.id=os:system"],
    ),
    Row(
        30,
        ("  args: {gamma: 0.9}", "  callbacks: ['nothing_here:Callback']"),
        5,
        "learner.callbacks[0]",
        ["nothing_here"],
        "nothing_here:Callback",
    ),
    world(30, "NotASimulator", ["gymnasium.Env"]),
    world(31, "NoInfo", ["reset"]),
    world(32, "Nan", ["nan", "step 1"]),
    world(32, "Shape", ["(3,)"]),
    world(33, "Dicts", ["MultiInputPolicy"], "MlpPolicy"),
    world(34, "FloatImage", ["uint8", "float32"], "CnnPolicy"),
    world(34, "OddImage", ["channels first or last", "(40, 3, 40)"], "CnnPolicy"),
    arg(35, "policy_kwargs: {net_arch: [0]}", "policy_kwargs.net_arch"),
    arg(36, "policy_kwargs: {net_arch: [1000000, 1000000]}", "policy_kwargs.net_arch"),
    arg(37, "policy_kwargs: {activation_fn: \"eval('1')\"}", "policy_kwargs.activation_fn"),
    Row(
        38,
        ("id: cstr", "id: !!python/object/apply:os.system [id]"),
        2,
        "simulator.id",
        ["tag", "not allowed"],
    ),
    Row(39, BOMB + BASE, 5, None, ["aliases", "50,000"]),
    Row(40, "# " + "x" * 50_000_000, None, None, ["524,288 bytes"]),
    Row(41, ("name: bad", "name: ba\0d"), 1, None, ["U+0000", "column 9"]),
    Row(41, ("name: bad", "name: ba\u202ed"), 1, None, ["U+202E", "column 9"]),
    named(41, '"ba\\u202ed"', ["U+202E"]),
    named(42, "../../etc", ["A-Z a-z 0-9"], "../../etc"),
    named(42, "a/b", ["A-Z a-z 0-9"], "a/b"),
    named(43, "CON", ["CON"], "CON"),
    named(43, "''", ["1 to 63"]),
    Row(43, ("name: bad", "name: " + "x" * 300), 1, "name", ["1 to 63"]),
    named(43, "-x", ["the first a letter"], "-x"),
    named(45, "NO", ["quote it: 'NO'", "boolean"]),
    option(45, "mode: on", ["quote it: 'on'", "boolean"]),
    named(45, "true", ["quote it", "boolean"]),
    option(46, "time: 22:30", ["1350", "quote it: '22:30'"]),
    option(46, "code: 010", ["octal", "quote it: '010'"]),
    option(47, "python: 3.10", ["3.1", "quote it: '3.10'"]),
    named(47, "3.10", ["quote it: '3.10'", "3.1"]),
    added(48, "budget: {max_hours: 0}", "budget.max_hours", ["greater than 0"], "0"),
    added(50, "resources: {workers: 1000000}", "resources.workers", ["10000"], "1000000"),
    added(59, "store: [{url: file:///etc}]", "store[0].url", ["system"], "file:///etc"),
    added(59, "store: [{url: ftp://x/y}]", "store[0].url", ["ftp"], "ftp://x/y"),
    added(60, "store: [{url: file:///data/../etc}]", "store[0].url", [".."]),
    added(60, "store: [{url: file:///data/%2e%2e/etc}]", "store[0].url", [".."]),
    added(60, "store: [{url: file:///data/%252e%252e/etc}]", "store[0].url", [".."]),
    *(
        Row(61, BASE + f"tracking: {{mlflow: '{url}'}}\n", 8, "tracking.mlflow", ["metadata"], url)
        for url in (
            "http://169.254.169.254/",
            "http://metadata.google.internal/x",
            "http://2852039166/",
            "http://[::ffff:169.254.169.254]/",
        )
    ),
    added(61, "store: [{url: 'http://169.254.169.254/'}]", "store[0].url", ["metadata"]),
    added(
        62,
        "tracking: {mlflow: 'http://user:hunter2pw@host'}",
        "tracking.mlflow",
        ["user name or password", "MLFLOW_TRACKING_PASSWORD"],
        "http://***@host",
    ),
    Row(
        63,
        BASE + "tracking: {mlflow: 'http://127.0.0.1:9'}\n",
        8,
        "tracking.mlflow",
        ["cannot be reached", "--offline-ok"],
        "http://127.0.0.1:9",
        code=4,
    ),
    option(65, "api_key: sk-abcdefghijklmnopqrstuv", ["${env:API_KEY}"], "***"),
    option(65, "note: ghp_abcdefghijklmnopqrstuvwx", ["secret"], "***"),
    option(66, "api_key: '${env:NO_SUCH_KEY}'", ["NO_SUCH_KEY"]),
    added(76, "evaluate: {episodes: 0}", "evaluate.episodes", ["at least 1"], "0"),
    added(80, "backend: gpc", "backend", ["local"], "gpc"),
    added(80, "backend: {id: gcp}", "backend", ["write its name alone: gcp"]),
    added(83, "requirements: ['git+http://x/y']", "requirements[0]", ["=="], "git+http://x/y"),
    added(83, "requirements: ['-r req.txt']", "requirements[0]", ["write name==1.2.3"]),
    added(83, "requirements: [numpy]", "requirements[0]", ["numpy==1.2.3"], "numpy"),
    # Beyond the catalogue: shapes that people get wrong.
    Row(
        101,
        BASE,
        None,
        "train.steps",
        ["has two different values", "5 and 6"],
        "6",
        args=["--set", "train.steps=5", "--set", "train.steps=6"],
    ),
    Row(
        101,
        BASE,
        None,
        None,
        ["--tunable", "has two different values", "3 and 4"],
        args=["--tunable", "p=3", "--tunable", "p=4"],
    ),
    Row(
        101,
        BASE + "parameters: {const_args: {my_x: 0}}\n",
        None,
        None,
        ["--my_x", "has two different values", "1 and 2"],
        args=["--my-x", "1", "--my_x=2"],
    ),
    arg(102, "learning_rate: cosine", "learning_rate", ["fix: write cos_3e-4\n"], "cosine"),
    arg(102, "learning_rate: linear_1e-3", "learning_rate", ["fix: write lin_1e-3\n"]),
    arg(102, "learning_rate: CosineAnnealingLR", "learning_rate", ["fix: write cos_3e-4\n"]),
    arg(102, "lr_scheduler: StepLR", "lr_scheduler", ["sets the learning rate anew"], "StepLR"),
    arg(
        102,
        "policy_kwargs: {scheduler: StepLR}",
        "policy_kwargs.scheduler",
        ["sets the learning rate anew", "name: step"],
        "StepLR",
    ),
    arg(
        102,
        "policy_kwargs: {criterion: MSELoss}",
        "policy_kwargs.criterion",
        ["losses of these algorithms are fixed"],
        "MSELoss",
    ),
    arg(
        102,
        "policy_kwargs: {optimizer_class: torch.optim.Adam}",
        "policy_kwargs.optimizer_class",
        ["fix: write adam\n"],
        "torch.optim.Adam",
    ),
    Row(
        103,
        ("{id: cstr}", "{id: cstr, lesson: {nope: 1}}"),
        2,
        "simulator.lesson.nope",
        ["noise_percentage"],
    ),
    Row(
        103,
        ("{id: cstr}", "{id: cstr, lesson: {noise_percentage: {min: 5, max: 1}}}"),
        2,
        "simulator.lesson.noise_percentage",
        ["swap"],
        "5",
    ),
    *(
        Row(
            104,
            BASE + f"parameters:\n  tunables:\n    net:\n      params:\n        p: {{{body}}}\n",
            12,
            f"parameters.tunables.net.params.p{key}",
            [fix],
            value,
        )
        for body, key, fix, value in (
            ("type: float, range: [2, 1], default: 1", ".range", "fix: write [1, 2]", "[2, 1]"),
            ("type: int, range: [1.5, 5], default: 3", ".range", "type: float", "[1.5, 5]"),
            ("type: float, range: [0, 1], default: 3", ".default", "the nearest is 1", "3"),
            ("type: float, range: [0, 1], log: true, default: 1", ".range", "log: false", "[0"),
            ("type: categorical, values: [a, b], default: d", ".default", "a, b", "d"),
            ("type: int, default: 1", "", "add `range:", None),
        )
    ),
    Row(
        105,
        ("  steps: 10_000", "  steps: 10_000\n  max_time_s: .nan"),
        8,
        "train.max_time_s",
        ["is not a number"],
        "nan",
    ),
    added(105, "budget: {max_hours: -1}", "budget.max_hours", ["more than 0"], "-1"),
    added(105, "run_name: '{sed}'", "run_name", ["did you mean 'seed'"], "{sed}"),
    added(105, "resources: {device: gpu}", "resources.device", ["write cuda"], "gpu"),
    Row(100, ("{id: cstr}", "cstr"), 2, "simulator", ["{id: cstr}"], "cstr"),
    Row(100, ("simulator: {id: cstr}\n", ""), None, None, ["simulator"]),
    Row(100, (STEPS, "  steps: null\n"), 6, "train", ["exactly one of"]),
    Row(
        100,
        ("{id: cstr}", "{id: cstr, lesson: {Cref_signal: [1, 2]}}"),
        2,
        "simulator.lesson.Cref_signal",
        ["values"],
    ),
    option(100, "x: $nope", ["$nope is not declared"]),
    added(
        100, "parameters: {required_args: [a_1, b_2]}", "parameters.required_args", ["a_1, b_2"]
    ),
    added(100, "baselines: [holt]", "baselines[0]", ["did you mean 'hold'"], "holt"),
    added(100, "schema: 2", "schema", ["1"], "2"),
    *(
        Row(
            100,
            (
                "simulator: {id: cstr}\n",
                "simulator:\n  id: tank:Tank\n  agent:\n"
                f"    observes: {{x: {{min: 0, max: 1{more}}}, y: {{min: 0, max: 1}}}}\n"
                f"    acts: {{a: {{min: 0, max: 1}}}}\n    reward: {{near: {reward}}}\n",
            ),
            line,
            f"simulator.agent.{field}",
            [words],
            value,
        )
        for more, reward, line, field, words, value in (
            (", reference: yy", "-x", 5, "observes.x.reference", "did you mean 'y'", "yy"),
            ("", "-abs(x", 7, "reward.near", "never closed", "-abs(x"),
        )
    ),
    *(
        Row(
            106,
            (
                "  args: {gamma: 0.9}\n",
                f"  args: {{{args}}}\n{more}",
            ),
            line,
            field,
            [words],
            value,
        )
        for args, more, line, field, words, value in (
            ("gamma: {tune: [0.9, 0.5]}", "", 5, "learner.args.gamma.tune", "[0.5, 0.9]", "0.9"),
            (
                "learning_rate: {tune: [0, 0.1], log: true}",
                "",
                5,
                "learner.args.learning_rate.tune",
                "log: false",
                "0.1",
            ),
            ("gamma: {tune: {choices: []}}", "", 5, "learner.args.gamma.tune.choices", "64", "[]"),
            ("gamma: {tune: [0.5, 0.9]}", "", 5, "learner.args.gamma", "study: {trials: 30}", "0"),
            ("", "  policy: {tune: [a, b]}\n", 6, "learner.policy", "same in all trials", "tune"),
            ("", "  tune: everything\n", 6, "learner.tune", "tune: default", "everything"),
        )
    ),
    Row(
        106,
        learner("", "impala", "  tune: default\n"),
        6,
        "learner.tune",
        ["no ready-made space"],
        "impala",
    ),
    Row(107, (STEPS, "  steps: 50x\n"), 7, "train.steps", ["50k"], "50x"),
    Row(107, (STEPS, "  steps: 1.2345k\n"), 7, "train.steps", ["write 1234"], "1.2345k"),
]
