"""Resolve all settings of a run from flags, recipe files and defaults.

Command-line flags override `--recipe FILE`, which overrides the `optimize.toml` beside the model, which overrides the defaults.

One table lists every setting with its place in a toml file and the reader of its value. The resolved recipe is written to
`recipe.lock.toml`. That file names every setting, "none" where it has no value, so no other file is needed to read it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import tomli_w

from optimize.data.label_kinds import AUTO, NAMES
from optimize.data.resizing import INTERPOLATIONS
from optimize.errors import InputError
from optimize.guard.limits import CLASS_METRICS, METRICS, MODES, POWER, PRESETS, Limits, Relative
from optimize.guard.rails import GuardRail, Rule, rows
from optimize.hardware.cpu_level import LEVELS
from optimize.run import parsing as read
from optimize.run.preprocessing_presets import PREPROCESSING_PRESETS, overridden, with_preset
from optimize.run.recipe_file import Setting as _Setting
from optimize.run.recipe_file import nearest, read_settings
from optimize.run.renamed import RENAMED as RENAMED

if TYPE_CHECKING:
    from optimize.steps.finetune import Finetune

Outputs: TypeAlias = Literal["auto", "logits", "probabilities"]
PREFERENCES = ("balanced", "latency", "size")
FLOORS = ("S1", "S2", "S3", "S4", "S5", "S6", "none")
STOPPING = ("floor", "threshold", "wilson", "mcnemar", "z-score")


@dataclass(frozen=True)
class Recipe:
    """The fully resolved settings of a run; all paths are absolute.

    Args:
        model: file of weights.
        target: runtime to compile for.
        out: folder for the results.
        arch: "file.py:factory" that builds the network, or None.
        arch_args: keyword arguments of that factory.
        input_shape: shape of one input, (C, *spatial); empty when not given.
        weights: name of the set of weights to take, where the file holds several; None for the choice of `loading/checkpoint.py`.
        output: name or position of the network's output to take, where it returns several; None for the usual one.
        data: `.npz` or "file.py:factory"; empty when not given.
        preprocessing: preset that `mean`, `std`, `resize`, `crop` and `interpolation` came from, or None (`run/preprocessing_presets.py`).
        mean: mean of each channel, see `Preprocessing`.
        std: standard deviation of each channel, see `Preprocessing`.
        pad: zeros around each image, see `Preprocessing`.
        standardize: "image" or None, see `Preprocessing`.
        resize: side or sides to which image files are resized, see `Resizing`; empty to leave them.
        crop: side or sides that are cut out of the middle of image files; empty for the whole image.
        interpolation: how image files are resized, one of `INTERPOLATIONS`.
        classes: names of the labels; empty for those in the data.
        drop_overlap: whether items that stand in two splits are dropped.
        task: what labels are of, "classification", "multilabel", "ordinal", "regression" or "embedding"; "auto" for what they show.
        history: file that records looks at the test split, or None for the one beside the data (`run/history.py`).
        fresh_test: whether nobody has looked at the test split, so that its first look may spend the whole permitted error.
        trust_pickle: whether a model file that runs code is loaded.
        outputs: meaning of the network's outputs, "logits" or "probabilities"; "auto" to tell it from their values.
        expect: overall figure that the original is known to reach, in 0..1; None where it is not known.
        allow_weak_original: whether an original that is no better than a constant answer is accepted.
        limits: the guard-rails.
        reason: why the change is made, for the report.
        sign_key: file of the private key that signs the report, or None.
        protocol: file of the protocol that was fixed before the run (`run/protocol.py`), or None.
        strategy: name of the search strategy, one of `strategy_names()`.
        importance: signal that says which channels go first, a name of `optimize.importance.signals()`; None for the strategy's own.
        prefer: goal for which the strategy "allocate" uses the allowed loss, one of `PREFERENCES`.
        floors: smallest widths for the strategies "stepwise" and "local", one of `FLOORS`.
        stopping: rule by which "stepwise" and "local" leave out proposals or stop, one of `STOPPING`.
        budgets: error budgets of the strategy "budget", from mild to bold, each in 0..1; empty for the search's own.
        energy: smallest share of a layer's output energy that a factorization may keep; 1 for no factorization, None for the search's own.
        retrain: whether recovery training is allowed.
        epochs: number of epochs of a recovery training, see `Finetune`.
        learning_rate: peak learning rate of a recovery training, or None for one that fits the optimizer.
        optimizer: optimizer of a recovery training, "adamw" or "sgd".
        horizontal_flip: whether a recovery training also sees mirrored inputs.
        latency_target_ms: median latency in milliseconds that the artifact must reach at batch 1; None where none is asked for.
        speedup: speed that the artifact must reach, as a multiple of the original's in the same runtime; None where none is asked for.
        power: chance of acceptance that the search aims at, in 0.5..1.
        seed: seed of everything that is sampled at random.
        cpu_level: level of the processor that the artifact is made for, one of `hardware.cpu_level.LEVELS`; None for this machine's.
        threads: number of threads of the runtime, or None for its own choice.
        batch: larger batch size that is timed beside 1.
        compute_capability: GPUs to compile for, where the target lets one choose; empty leaves it to the target.
        force: whether the run starts although its verdict can only be "inconclusive".
        time_budget: seconds that the run may take; None for as long as the search needs.
    """

    model: Path
    target: str
    out: Path
    arch: str | None = None
    arch_args: Mapping[str, object] = field(default_factory=dict)
    input_shape: tuple[int, ...] = ()
    weights: str | None = None
    output: str | None = None
    data: str = ""
    preprocessing: str | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    pad: int = 0
    standardize: str | None = None
    resize: tuple[int, ...] = ()
    crop: tuple[int, ...] = ()
    interpolation: str = "bilinear"
    classes: tuple[str, ...] = ()
    drop_overlap: bool = False
    task: str = AUTO
    history: Path | None = None
    fresh_test: bool = False
    trust_pickle: bool = False
    outputs: Outputs = "auto"
    expect: float | None = None
    allow_weak_original: bool = False
    limits: Limits = field(default_factory=Limits)
    reason: str = ""
    sign_key: Path | None = None
    protocol: Path | None = None
    strategy: str = "allocate"
    importance: str | None = None
    prefer: str = "balanced"
    floors: str = "S2"
    stopping: str = "floor"
    budgets: tuple[float, ...] = ()
    energy: float | None = None
    retrain: bool = False
    epochs: int = 5
    learning_rate: float | None = None
    optimizer: Literal["adamw", "sgd"] = "adamw"
    horizontal_flip: bool = False
    latency_target_ms: float | None = None
    speedup: float | None = None
    power: float = POWER
    seed: int = 0
    cpu_level: str | None = None
    threads: int | None = None
    batch: int = 8
    compute_capability: tuple[str, ...] = ()
    force: bool = False
    time_budget: float | None = None

    @property
    def loader_arguments(self) -> dict[str, Any]:
        """The arguments with which `load_model` loads this recipe's model."""
        return {
            "path": str(self.model),
            "arch": self.arch,
            "arch_args": dict(self.arch_args),
            "input_shape": self.input_shape,
            "trust_pickle": self.trust_pickle,
            "weights": self.weights,
            "output": self.output,
        }

    @property
    def finetune(self) -> Finetune | None:
        """The recovery training that this run may use; None for none."""
        from optimize.steps.finetune import Finetune  # late: reading a recipe needs no torch

        return Finetune(self.epochs, self.learning_rate, self.optimizer, horizontal_flip=self.horizontal_flip) if self.retrain else None


def _reader(row: GuardRail) -> read.Reader:
    """Return how the limit of a guard-rail is read: what may be written follows from the rail's rule."""
    readers: dict[Rule, read.Reader] = {
        "drop": read.limit,
        "rise": read.points,
        "ceiling": read.share,
        "floor": read.fraction(row.example),
    }
    reader = read.limit if row.relative else readers[row.rule]
    return reader if row.default is not None else read.optional(reader)


_SETTINGS = {
    "model": _Setting("model", "path", read.path),
    "arch": _Setting("model", "arch", read.optional(read.architecture)),
    "arch_args": _Setting("model", "arch_args", read.table),
    "input_shape": _Setting("model", "input", read.shape),
    "weights": _Setting("model", "weights", read.optional(read.word)),
    "output": _Setting("model", "output", read.optional(read.word)),
    "trust_pickle": _Setting("model", "trust_pickle", read.switch),
    "outputs": _Setting("model", "outputs", read.choice(*get_args(Outputs))),
    "expect": _Setting("model", "expect", read.optional(read.fraction("0.96"))),
    "allow_weak_original": _Setting("model", "allow_weak_original", read.switch),
    "data": _Setting("data", "path", read.source),
    "preprocessing": _Setting("data", "preprocessing", read.optional(read.choice(*PREPROCESSING_PRESETS))),
    "mean": _Setting("data", "mean", read.numbers),
    "std": _Setting("data", "std", read.numbers),
    "pad": _Setting("data", "pad", read.integer(0)),
    "standardize": _Setting("data", "standardize", read.optional(read.choice("image"))),
    "resize": _Setting("data", "resize", read.sides),
    "crop": _Setting("data", "crop", read.sides),
    "interpolation": _Setting("data", "interpolation", read.choice(*INTERPOLATIONS)),
    "classes": _Setting("data", "classes", read.words),
    "drop_overlap": _Setting("data", "drop_overlap", read.switch),
    "task": _Setting("data", "task", read.choice(AUTO, *NAMES)),
    "history": _Setting("data", "history", read.optional(read.path)),
    "fresh_test": _Setting("data", "fresh_test", read.switch),
    "preset": _Setting("limits", "preset", read.choice("none", *PRESETS)),
    "verdict": _Setting("limits", "verdict", read.choice(*MODES)),
    "confidence": _Setting("limits", "confidence", read.fraction("0.95")),
    "metric": _Setting("limits", "metric", read.choice(*METRICS)),
    "class_metric": _Setting("limits", "class_metric", read.choice(*CLASS_METRICS)),
    **{row.name: _Setting("limits", row.name, _reader(row)) for row in rows()},
    "threshold": _Setting("limits", "threshold", read.optional(read.fraction("0.5"))),
    "positive": _Setting("limits", "positive", read.words),
    "reason": _Setting("change", "reason", read.text),
    "sign_key": _Setting("change", "sign_key", read.optional(read.path)),
    "protocol": _Setting("change", "protocol", read.optional(read.path)),
    "strategy": _Setting("search", "strategy", read.strategy),
    "importance": _Setting("search", "importance", read.optional(read.signal)),
    "prefer": _Setting("search", "prefer", read.choice(*PREFERENCES)),
    "floors": _Setting("search", "floors", read.choice(*FLOORS)),
    "stopping": _Setting("search", "stopping", read.choice(*STOPPING)),
    "budgets": _Setting("search", "budgets", read.positive_fractions),
    "energy": _Setting("search", "energy", read.optional(read.share)),
    "retrain": _Setting("search", "retrain", read.switch),
    "epochs": _Setting("retrain", "epochs", read.integer(1)),
    "learning_rate": _Setting("retrain", "learning_rate", read.optional(read.positive)),
    "optimizer": _Setting("retrain", "optimizer", read.choice("adamw", "sgd")),
    "horizontal_flip": _Setting("retrain", "horizontal_flip", read.switch),
    "latency_target_ms": _Setting("search", "latency_target_ms", read.optional(read.milliseconds)),
    "speedup": _Setting("search", "speedup", read.optional(read.times)),
    "power": _Setting("search", "power", read.power),
    "seed": _Setting("search", "seed", read.seed),
    "threads": _Setting("profile", "threads", read.optional(read.threads)),
    "batch": _Setting("profile", "batch", read.batch),
    "target": _Setting("run", "target", read.word),
    "compute_capability": _Setting("run", "compute_capability", read.capabilities),
    "cpu_level": _Setting("run", "cpu_level", read.optional(read.choice(*LEVELS))),
    "force": _Setting("run", "force", read.switch),
    "time_budget": _Setting("run", "time_budget", read.optional(read.seconds)),
    "out": _Setting("run", "out", read.path),
}
_LIMITS = {setting for setting, where in _SETTINGS.items() if where.section == "limits"}


def resolve(
    model: str | Path | None = None,
    *,
    target: str | None = None,
    overrides: Mapping[str, object] | None = None,
    recipe_file: str | Path | None = None,
    prefix: str = "--",
) -> Recipe:
    """Resolve every setting of a run.

    Args:
        model: file of weights; None where the recipe file names it.
        target: runtime to compile for; None where the recipe file names it.
        overrides: values of flags, by the field names of `Recipe` and `Limits`, as text or as values; None counts as not given.
        recipe_file: toml file whose settings override the `optimize.toml` beside the model.
        prefix: what errors put before the names of overrides: "--" for flags, "" for arguments of a function.

    Raises:
        InputError: when a file cannot be read, a key is unknown, or a value is of the wrong kind.
    """
    flags = {name: value for name, value in {**(overrides or {}), "model": model, "target": target}.items() if value is not None}
    if unknown := sorted(flags.keys() - _SETTINGS.keys()):
        raise InputError(f"`{unknown[0]}` is no setting{nearest(unknown[0], _SETTINGS) or ': docs/settings.md lists them.'}")
    settings = {name: _SETTINGS[name].read(value, f"--{_flag(name)}" if prefix else name, Path.cwd()) for name, value in flags.items()}
    if recipe_file is not None:
        if not Path(recipe_file).exists():
            raise InputError(f"`{prefix}recipe` (={recipe_file}) does not exist: check the path.")
        settings = overridden(read_settings(Path(recipe_file), _SETTINGS), settings)
    if "model" in settings and "target" in settings:
        settings.setdefault("out", Path.cwd() / f"{Path(str(settings['model'])).stem}-{settings['target']}")
    for name in ("model", "target"):
        if name not in settings:
            raise InputError(f"`{name}` is missing: pass it, or a {prefix}recipe that names it.")
    # the file beside the model comes last of the files, so that it fills gaps and overrides nothing
    beside = Path(str(settings["model"])).parent / "optimize.toml"
    if beside.is_file():
        settings = overridden(_trusted(read_settings(beside, _SETTINGS), beside, settings), settings)
    settings = with_preset(settings)
    limits = {name: settings.pop(name) for name in _SETTINGS if name in _LIMITS and name in settings}
    return Recipe(**settings, limits=_limits(limits))  # type: ignore[arg-type]


def stated_limits(table: Mapping[str, object], where: str) -> Limits:
    """Return the limits that a table asks for: what a run has whose recipe has this table as its section [limits], and no other limit.

    Raises:
        InputError: when a key is no limit, or a value is of the wrong kind.
    """
    if unknown := sorted(table.keys() - _LIMITS):
        raise InputError(f"`{unknown[0]}` of {where} is no limit{nearest(unknown[0], _LIMITS) or ': docs/settings.md lists them.'}")
    return _limits({name: _SETTINGS[name].read(value, f"{name} of {where}", Path.cwd()) for name, value in table.items()})


def stated_setting(name: str, value: object, where: str) -> object:
    """Return the value of a setting that is no limit, as `Recipe` holds it.

    Raises:
        InputError: when there is no such setting, or the value is of the wrong kind.
    """
    if name not in _SETTINGS or name in _LIMITS:
        near = nearest(name, _SETTINGS.keys() - _LIMITS)
        raise InputError(f"`{name}` of {where} is no setting{near or ': docs/settings.md lists them.'}")
    return _SETTINGS[name].read(value, f"{name} of {where}", Path.cwd())


def _limits(limits: dict[str, object]) -> Limits:
    # a preset is a set of limits; single limits override it wherever they were set
    if limits.get("preset") == "none":
        del limits["preset"]
    return Limits(**{**PRESETS.get(str(limits.get("preset")), {}), **limits})


def to_toml(recipe: Recipe) -> str:
    """Return the recipe as toml text, from which `resolve(recipe_file=...)` makes an equal recipe."""
    tables: dict[str, dict[str, object]] = {}
    for name, setting in _SETTINGS.items():
        value = getattr(recipe.limits if name in _LIMITS else recipe, name)
        tables.setdefault(setting.section, {})[setting.key] = _plain(name, value)
    return tomli_w.dumps(tables)


def _plain(name: str, value: object) -> object:
    """Return the form of a value in toml, from which the setting's reader makes an equal value."""
    if value is None or (name == "preset" and not value):
        return "none"
    if isinstance(value, Path | Relative):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _trusted(settings: dict[str, object], file: Path, overrides: Mapping[str, object]) -> dict[str, object]:
    """Return the settings of the file that came with a model, which must not vouch for that model nor point to another one."""
    # whoever sends a harmful model would also send this file with it
    if settings.get("trust_pickle") and "trust_pickle" not in overrides:
        raise InputError(f"{file} asks to trust the pickle it lies beside: pass --trust-pickle yourself if you trust the model's author.")
    return {name: value for name, value in settings.items() if name != "model"}


def _flag(name: str) -> str:
    """Return the name of a setting's flag, without its dashes."""
    return {"input_shape": "input", "latency_target_ms": "latency-target"}.get(name, name.replace("_", "-"))
