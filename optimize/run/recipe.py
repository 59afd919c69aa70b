"""The settings of a run, resolved once: flag, then `--recipe` file, then `optimize.toml` beside the model, then the default.

One table says of every setting where it lives in a toml, how it is read and what it is when nobody says anything. The resolved recipe is
written back as `recipe.lock.toml`, which names every setting ("none" where there is none), so that reading it back needs nothing else.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import tomli_w

from optimize.errors import InputError, did_you_mean
from optimize.guard.limits import CLASS_METRICS, METRICS, MODES, PRESETS, Limits, Relative
from optimize.hardware.cpu_level import LEVELS
from optimize.progress import note
from optimize.run import parsing as read

if TYPE_CHECKING:
    from optimize.steps.finetune import Finetune

Outputs: TypeAlias = Literal["auto", "logits", "probabilities"]
STRATEGIES = ("allocate", "budget", "stepwise", "local")
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
        arch_args: its keyword arguments.
        input_shape: of one input, (C, *spatial); empty when not given.
        weights: name of the set of weights to take, where the file holds several; None for the choice of `loading/checkpoint.py`.
        data: `.npz` or "file.py:factory"; empty when not given.
        mean: per channel, see `Preprocessing`.
        std: per channel, see `Preprocessing`.
        pad: zeros around each image, see `Preprocessing`.
        standardize: "image" or None, see `Preprocessing`.
        classes: names of the labels; empty: those in the data.
        drop_overlap: drop items that stand in two splits.
        history: file that records looks at the test split, or None for the one beside the data (`run/history.py`).
        fresh_test: nobody has looked at the test split: its first look may spend the whole permitted error.
        trust_pickle: load a model file that runs code.
        outputs: what the network's outputs mean, "logits" or "probabilities"; "auto" for what their values show.
        expect: overall figure that the original is known to reach, in 0..1; None where it is not known.
        allow_weak_original: go on with an original that is no better than a constant answer.
        limits: the guard-rails.
        reason: why the change is made, for the report.
        sign_key: file of the private key that signs the report, or None.
        strategy: how the search goes about it, one of `STRATEGIES`.
        importance: signal that says which channels go first, a name of `optimize.importance.signals()`; None for the strategy's own.
        prefer: what "allocate" gives its room for, one of `PREFERENCES`.
        floors: widths that "stepwise" and "local" never go below, one of `FLOORS`.
        stopping: rule by which they leave proposals out or stop, one of `STOPPING`.
        budgets: error budgets of the pruning walk, mild to bold, each in 0..1; empty: the search's own.
        energy: least share of a layer's output energy that a factorization may keep; 1 for no factorization, None for the search's own.
        retrain: allow recovery training.
        epochs: of a recovery training, see `Finetune`; so are the following three.
        learning_rate: its peak, or None for one that fits the optimizer.
        optimizer: "adamw" or "sgd".
        horizontal_flip: train on mirrored inputs too.
        latency_target_ms: median latency that the artifact must reach at batch 1, with as little loss as can be; or None.
        speedup: the same, as so many times the original's speed in the same runtime; or None.
        seed: of everything drawn at random.
        cpu_level: level of the processor that the artifact is made for, one of `hardware.cpu_level.LEVELS`; None for this machine's.
        threads: of the runtime, or None for its own choice.
        batch: the larger batch size that is timed beside 1.
        compute_capability: of the GPUs to compile for, where the target lets one choose; empty leaves it to the target.
        force: run also where it is known before that the verdict will be "inconclusive".
    """

    model: Path
    target: str
    out: Path
    arch: str | None = None
    arch_args: Mapping[str, object] = field(default_factory=dict)
    input_shape: tuple[int, ...] = ()
    weights: str | None = None
    data: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    pad: int = 0
    standardize: str | None = None
    classes: tuple[str, ...] = ()
    drop_overlap: bool = False
    history: Path | None = None
    fresh_test: bool = False
    trust_pickle: bool = False
    outputs: Outputs = "auto"
    expect: float | None = None
    allow_weak_original: bool = False
    limits: Limits = field(default_factory=Limits)
    reason: str = ""
    sign_key: Path | None = None
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
    seed: int = 0
    cpu_level: str | None = None
    threads: int | None = None
    batch: int = 8
    compute_capability: tuple[str, ...] = ()
    force: bool = False

    @property
    def finetune(self) -> Finetune | None:
        """The recovery training that this run may use; None for none."""
        from optimize.steps.finetune import Finetune  # late: reading a recipe needs no torch

        return Finetune(self.epochs, self.learning_rate, self.optimizer, horizontal_flip=self.horizontal_flip) if self.retrain else None


@dataclass(frozen=True)
class _Setting:
    """Where a setting lives in a toml, and how its value is read: (value, its name for errors, folder relative paths start at)."""

    section: str
    key: str
    read: Callable[[Any, str, Path], object]


def _signal(value: Any, name: str, folder: Path) -> str:
    """The name of a signal."""
    from optimize.importance import signals  # late: only a recipe that names one needs torch, to see which there are

    return str(read.choice(*sorted(signals()))(value, name, folder))


_SETTINGS = {
    "model": _Setting("model", "path", read.path),
    "arch": _Setting("model", "arch", read.optional(read.factory_or_path)),
    "arch_args": _Setting("model", "arch_args", read.table),
    "input_shape": _Setting("model", "input", read.shape),
    "weights": _Setting("model", "weights", read.optional(read.word)),
    "trust_pickle": _Setting("model", "trust_pickle", read.switch),
    "outputs": _Setting("model", "outputs", read.choice(*get_args(Outputs))),
    "expect": _Setting("model", "expect", read.optional(read.fraction("0.96"))),
    "allow_weak_original": _Setting("model", "allow_weak_original", read.switch),
    "data": _Setting("data", "path", read.source),
    "mean": _Setting("data", "mean", read.numbers),
    "std": _Setting("data", "std", read.numbers),
    "pad": _Setting("data", "pad", read.integer(0)),
    "standardize": _Setting("data", "standardize", read.optional(read.choice("image"))),
    "classes": _Setting("data", "classes", read.words),
    "drop_overlap": _Setting("data", "drop_overlap", read.switch),
    "history": _Setting("data", "history", read.optional(read.path)),
    "fresh_test": _Setting("data", "fresh_test", read.switch),
    "preset": _Setting("limits", "preset", read.choice("none", *PRESETS)),
    "verdict": _Setting("limits", "verdict", read.choice(*MODES)),
    "confidence": _Setting("limits", "confidence", read.fraction("0.95")),
    "metric": _Setting("limits", "metric", read.choice(*METRICS)),
    "class_metric": _Setting("limits", "class_metric", read.choice(*CLASS_METRICS)),
    "max_drop": _Setting("limits", "max_drop", read.limit),
    "max_class_drop": _Setting("limits", "max_class_drop", read.limit),
    "max_group_drop": _Setting("limits", "max_group_drop", read.optional(read.limit)),
    "min_class_f1": _Setting("limits", "min_class_f1", read.fraction("0.85")),
    "min_class_recall": _Setting("limits", "min_class_recall", read.fraction("0.9")),
    "min_agreement": _Setting("limits", "min_agreement", read.fraction("0.95")),
    "threshold": _Setting("limits", "threshold", read.optional(read.fraction("0.5"))),
    "positive": _Setting("limits", "positive", read.words),
    "max_sensitivity_drop": _Setting("limits", "max_sensitivity_drop", read.optional(read.limit)),
    "max_specificity_drop": _Setting("limits", "max_specificity_drop", read.optional(read.limit)),
    "max_ece_rise": _Setting("limits", "max_ece_rise", read.optional(read.points)),
    "max_regressed": _Setting("limits", "max_regressed", read.optional(read.share)),
    "reason": _Setting("change", "reason", read.text),
    "sign_key": _Setting("change", "sign_key", read.optional(read.path)),
    "strategy": _Setting("search", "strategy", read.choice(*STRATEGIES)),
    "importance": _Setting("search", "importance", read.optional(_signal)),
    "prefer": _Setting("search", "prefer", read.choice(*PREFERENCES)),
    "floors": _Setting("search", "floors", read.choice(*FLOORS)),
    "stopping": _Setting("search", "stopping", read.choice(*STOPPING)),
    "budgets": _Setting("search", "budgets", read.shares),
    "energy": _Setting("search", "energy", read.optional(read.share)),
    "retrain": _Setting("search", "retrain", read.switch),
    "epochs": _Setting("retrain", "epochs", read.integer(1)),
    "learning_rate": _Setting("retrain", "learning_rate", read.optional(read.positive)),
    "optimizer": _Setting("retrain", "optimizer", read.choice("adamw", "sgd")),
    "horizontal_flip": _Setting("retrain", "horizontal_flip", read.switch),
    "latency_target_ms": _Setting("search", "latency_target_ms", read.optional(read.milliseconds)),
    "speedup": _Setting("search", "speedup", read.optional(read.times)),
    "seed": _Setting("search", "seed", read.seed),
    "threads": _Setting("profile", "threads", read.optional(read.threads)),
    "batch": _Setting("profile", "batch", read.batch),
    "target": _Setting("run", "target", read.word),
    "compute_capability": _Setting("run", "compute_capability", read.capabilities),
    "cpu_level": _Setting("run", "cpu_level", read.optional(read.choice(*LEVELS))),
    "force": _Setting("run", "force", read.switch),
    "out": _Setting("run", "out", read.path),
}
_LIMITS = tuple(limit.name for limit in fields(Limits))
RENAMED = {("run", "isa"): "cpu_level", ("retrain", "flips"): "horizontal_flip"}
"""(section, key) as version 0.1 had it -> the setting's name now. It is still read, with a notice."""


def resolve(
    model: str | Path | None = None,
    *,
    target: str | None = None,
    overrides: Mapping[str, object] | None = None,
    recipe_file: str | Path | None = None,
) -> Recipe:
    """Resolve every setting of a run.

    Args:
        model: file of weights; when None, the recipe file must name it.
        target: runtime to compile for; likewise.
        overrides: what the flags say, by the names of `Recipe` and `Limits`, as text or as values; None counts as not said.
        recipe_file: a toml that overrules the `optimize.toml` beside the model.

    Raises:
        InputError: when a file cannot be read, a key is unknown, or a value is of the wrong kind.
    """
    flags = {name: value for name, value in {**(overrides or {}), "model": model, "target": target}.items() if value is not None}
    if unknown := sorted(flags.keys() - _SETTINGS.keys()):
        raise InputError(f"`{unknown[0]}` is no setting{_nearest(unknown[0], _SETTINGS) or '.'}")
    said = {name: _SETTINGS[name].read(value, f"--{_flag(name)}", Path.cwd()) for name, value in flags.items()}
    if recipe_file is not None:
        if not Path(recipe_file).exists():
            raise InputError(f"`--recipe` (={recipe_file}) does not exist: check the path.")
        said = {**_read_toml(Path(recipe_file)), **said}
    if "model" in said and "target" in said:
        said.setdefault("out", Path.cwd() / f"{Path(str(said['model'])).stem}-{said['target']}")
    for name in ("model", "target"):
        if name not in said:
            raise InputError(f"`{name}` is missing: pass it, or a --recipe that names it.")
    beside = Path(str(said["model"])).parent / "optimize.toml"
    if beside.is_file():
        said = {**_trusted(_read_toml(beside), beside, said), **said}
    limits = {name: said.pop(name) for name in _LIMITS if name in said}
    if limits.get("preset") == "none":
        del limits["preset"]
    limits = {**PRESETS.get(str(limits.get("preset")), {}), **limits}
    return Recipe(**said, limits=Limits(**limits))  # type: ignore[arg-type]


def to_toml(recipe: Recipe) -> str:
    """The recipe as toml text; `resolve(recipe_file=...)` of it gives an equal recipe."""
    tables: dict[str, dict[str, object]] = {}
    for name, setting in _SETTINGS.items():
        value = getattr(recipe.limits if name in _LIMITS else recipe, name)
        tables.setdefault(setting.section, {})[setting.key] = _plain(name, value)
    return tomli_w.dumps(tables)


def _plain(name: str, value: object) -> object:
    """A value as toml writes it, so that its reader gives it back."""
    if value is None or (name == "preset" and not value):
        return "none"
    if isinstance(value, Path | Relative):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _read_toml(file: Path) -> dict[str, object]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as problem:
        raise InputError(f"{file} is no valid toml: {str(problem)[:200]}: mend it there.") from problem
    except (OSError, UnicodeDecodeError) as problem:
        raise InputError(f"{file} cannot be read as UTF-8 text: {' '.join(str(problem).split())[:200]}: name a toml file.") from problem
    names = {(setting.section, setting.key): name for name, setting in _SETTINGS.items()}
    sections = {setting.section for setting in _SETTINGS.values()}
    said: dict[str, object] = {}
    for section, table in document.items():
        if section not in sections:
            home = _home(section, names)
            hint = f": as a setting it belongs in [{home}]" if home else _nearest(section, sections)
            raise InputError(f"{file}: [{section}] is no section{hint}; sections: {', '.join(sorted(sections))}.")
        if not isinstance(table, dict):
            raise InputError(f"{file}: {section} (={table!r}) must be a section: write [{section}].")
        for key, value in table.items():
            if (section, key) in RENAMED:
                name = RENAMED[section, key]
                note(f"{file}: `{key}` of [{section}] is now called `{_SETTINGS[name].key}`: rename it there.")
                said[name] = _SETTINGS[name].read(value, f"[{section}] {key} in {file}", file.absolute().parent)
                continue
            if (section, key) not in names:
                home = _home(key, names)
                hint = f": it belongs in [{home}]." if home else _nearest(key, [known for _, known in names]) or ": leave it out."
                raise InputError(f"{file}: `{key}` is no setting of [{section}]{hint}")
            name = names[section, key]
            said[name] = _SETTINGS[name].read(value, f"[{section}] {key} in {file}", file.absolute().parent)
    return said


def _trusted(found: dict[str, object], file: Path, said: Mapping[str, object]) -> dict[str, object]:
    """A file that came with a model must not vouch for that model, nor point elsewhere."""
    if found.get("trust_pickle") and "trust_pickle" not in said:
        raise InputError(f"{file} asks to trust the pickle it lies beside: pass --trust-pickle yourself if you trust the model's author.")
    return {name: value for name, value in found.items() if name != "model"}


def _home(key: str, names: Mapping[tuple[str, str], str]) -> str | None:
    """The section that a setting belongs in."""
    return next((section for section, known in names if known == key), None)


def _nearest(word: str, known: Any) -> str:
    near = did_you_mean(word, known)
    return f": {near[2:-1]}".replace("'", "`") if near else ""


def _flag(name: str) -> str:
    return {"input_shape": "input", "latency_target_ms": "latency-target"}.get(name, name.replace("_", "-"))
