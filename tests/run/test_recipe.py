from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimize.errors import InputError
from optimize.guard.limits import Limits, Relative
from optimize.loading.load import load_model
from optimize.run.recipe import Recipe, resolve, to_toml
from optimize.steps.finetune import Finetune
from tests import runs


def _resolve(folder: Path, text: str | None = None, recipe: str | None = None, **overrides: Any) -> Recipe:
    if text is not None:
        (folder / "optimize.toml").write_text(text, encoding="utf-8")
    file = None
    if recipe is not None:
        file = folder / "sub" / "my recipe.toml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(recipe, encoding="utf-8")
    return resolve(folder / "m.pt", target="openvino", overrides={"out": folder / "out", **overrides}, recipe_file=file)


def test_defaults(tmp_path: Path) -> None:
    assert _resolve(tmp_path) == Recipe(tmp_path / "m.pt", "openvino", tmp_path / "out")


def test_flag_beats_recipe_beats_file_beside_the_model_beats_default(tmp_path: Path) -> None:
    beside = "[search]\nseed = 1\n[profile]\nthreads = 1\nbatch = 1\n[limits]\nmax_drop = '1pp'\n"
    recipe = "[search]\nseed = 2\n[profile]\nthreads = 2\n"
    found = _resolve(tmp_path, beside, recipe, seed=3)
    assert (found.seed, found.threads, found.batch, found.limits) == (3, 2, 1, Limits(max_drop=0.01))


def test_none_counts_as_not_said_and_text_none_as_none(tmp_path: Path) -> None:
    beside = "[search]\nenergy = 0.9\n[profile]\nthreads = 4\n"
    assert _resolve(tmp_path, beside, threads=None, energy=None).threads == 4
    found = _resolve(tmp_path, beside, threads="none", energy="none")
    assert (found.threads, found.energy) == (None, None)


def test_paths_in_a_toml_start_at_that_toml_and_flags_at_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = _resolve(tmp_path, "[model]\narch = 'net.py:f'\n", "[data]\npath = '../d.npz'\n")
    assert found.arch == f"{tmp_path}/net.py:f"
    assert found.data == f"{tmp_path}/sub/../d.npz"
    found = _resolve(tmp_path, arch="x/net.py:g", data="d.py:load", out="o")
    assert (found.arch, found.data, found.out) == (f"{tmp_path}/x/net.py:g", f"{tmp_path}/d.py:load", tmp_path / "o")
    assert _resolve(tmp_path, arch="/abs/net.py:g").arch == "/abs/net.py:g"


def test_a_signal_is_selected_by_name_in_a_toml_and_by_a_flag(tmp_path: Path) -> None:
    assert _resolve(tmp_path).importance is None
    assert _resolve(tmp_path, "[search]\nimportance = 'taylor'\n").importance == "taylor"
    found = _resolve(tmp_path, importance="magnitude")
    assert found.importance == "magnitude"
    (tmp_path / "lock.toml").write_text(to_toml(found), encoding="utf-8")
    assert resolve(recipe_file=tmp_path / "lock.toml") == found
    with pytest.raises(InputError, match=r"^`--importance` \(='magnitud'\) must be one of batchnorm, .* \(did you mean 'magnitude'\?\)\.$"):
        _resolve(tmp_path, importance="magnitud")


def test_flags_may_be_text(tmp_path: Path) -> None:
    found = _resolve(
        tmp_path,
        input_shape="3,32,32",
        mean="0.5, 0.4,0.3",
        std="1,1,1",
        pad="2",
        classes="a, b",
        max_drop="2%",
        max_class_drop="6pp",
        budgets="0.5,20%",
        latency_target_ms="5ms",
        arch_args="{width = 0.5, widths = [1, 2]}",
    )
    assert (found.input_shape, found.mean, found.std, found.pad, found.classes) == ((3, 32, 32), (0.5, 0.4, 0.3), (1, 1, 1), 2, ("a", "b"))
    assert found.limits == Limits(0.02, 0.06)
    assert (found.budgets, found.latency_target_ms, found.arch_args) == ((0.5, 0.2), 5.0, {"width": 0.5, "widths": [1, 2]})


def test_recovery_training_is_a_step_with_the_settings_given(tmp_path: Path) -> None:
    given = "[search]\nretrain = true\n[retrain]\nepochs = 7\nlearning_rate = 1e-3\noptimizer = 'sgd'\nhorizontal_flip = true\n"
    assert _resolve(tmp_path, given).finetune == Finetune(7, 1e-3, "sgd", horizontal_flip=True)
    assert _resolve(tmp_path, "[search]\nretrain = true\n").finetune == Finetune()
    assert _resolve(tmp_path, given, retrain=False).finetune is None


@pytest.mark.parametrize(("text", "value"), [("5", 5), ("0.005s", 5), ("250us", 0.25), (5, 5), (1e-5, 1e-5)])
def test_latency_units(tmp_path: Path, text: object, value: float) -> None:
    assert _resolve(tmp_path, latency_target_ms=text).latency_target_ms == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[search]\nseed = \n", r"optimize.toml is no valid toml: .*line 2"),
        ("[search\n", r"no valid toml: .*line 1.*: mend it there\.$"),
        ("[search]\nseed = 1\nseed = 2\n", "no valid toml: .*line 3"),
        ("seed = 1\n", r"\[seed\] is no section: as a setting it belongs in \[search\]; sections: change, data, limits, model"),
        ("[serach]\nseed = 1\n", r"\[serach\] is no section: did you mean `search`\?"),
        ("[search]\nsed = 1\n", r"`sed` is no setting of \[search\]: did you mean `seed`\?$"),
        ("[search]\nqqqqqq = 1\n", r"`qqqqqq` is no setting of \[search\]: leave it out\.$"),
        ("[limits]\nmax_clas_drop = 1\n", "did you mean `max_class_drop`"),
        ("[model]\nseed = 1\n", r"`seed` is no setting of \[model\]: it belongs in \[search\]"),
        ("model = 'x.pt'\n", r"model \(='x.pt'\) must be a section: write \[model\]"),
        ("[search]\nseed = 1.5\n", r"`\[search\] seed in .*` \(=1.5\) must be a whole number, at least 0"),
        ("[search]\nseed = true\n", "must be a whole number"),
        ("[search]\nseed = -1\n", "must be a whole number, at least 0"),
        ("[search]\nretrain = 'yes'\n", r"\(='yes'\) must be true or false"),
        ("[retrain]\nepochs = 0\n", "must be a whole number, at least 1"),
        ("[retrain]\nlearning_rate = 0\n", r"`\[retrain\] learning_rate in .*` \(=0\) must be above 0"),
        ("[retrain]\nlearning_rate = 'fast'\n", "must be a number"),
        ("[retrain]\noptimizer = 'adam'\n", r"\(='adam'\) must be one of adamw, sgd"),
        ("[retrain]\nretrain = true\n", r"`retrain` is no setting of \[retrain\]: it belongs in \[search\]"),
        ("[search]\nbudgets = [0.5, 0]\n", "shares above 0"),
        ("[search]\nbudgets = 0.5\n", "must be a list"),
        ("[search]\nstrategy = 'greedy'\n", r"\(='greedy'\) must be one of allocate, budget, local, stepwise"),
        ("[search]\nstrategy = 3\n", r"\(=3\) must be one of allocate"),
        ("[search]\nfloors = 'S7'\n", r"\(='S7'\) must be one of S1, S2, S3, S4, S5, S6, none"),
        ("[search]\nstopping = 'never'\n", r"\(='never'\) must be one of floor, threshold, wilson, mcnemar, z-score"),
        ("[search]\nenergy = '150%'\n", "must lie between 0 and 1"),
        ("[search]\nenergy = nan\n", "must be a share"),
        ("[search]\nlatency_target_ms = 0\n", "must be a duration above 0"),
        ("[search]\nlatency_target_ms = '5 minutes'\n", "must be a duration above 0"),
        ("[profile]\nthreads = 0\n", "must be a whole number, at least 1"),
        ("[model]\ninput = [3, 0, 32]\n", "at least 1"),
        ("[model]\ninput = '3x32xa'\n", "each a whole number from 1"),
        ("[model]\narch = ''\n", "must be text, and not empty"),
        ("[model]\narch_args = 3\n", "must be a table of keyword arguments"),
        ("[data]\nmean = [0.5, 'x']\n", r"\(='x'\) must be a number"),
        ("[data]\nmean = [inf]\n", "must be a number"),
        ("[data]\nclasses = [1, 2]\n", "must be text"),
        ("[data]\nstandardize = 'volume'\n", r"\(='volume'\) must be one of image"),
        ("[limits]\nmax_drop = 2\n", "has no unit and is 1 or more"),
        ("[limits]\nmax_drop = -0.1\n", "must be a share"),
    ],
)
def test_bad_files_give_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        _resolve(tmp_path, text)
    assert "optimize.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_recipe_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`--recipe` \(=.*gone.toml\) does not exist"):
        resolve("m.pt", target="openvino", overrides={"out": "o"}, recipe_file=tmp_path / "gone.toml")
    with pytest.raises(InputError, match=r"`--recipe` \(=.*\) is a folder: name a toml file in it"):
        resolve("m.pt", target="openvino", overrides={"out": "o"}, recipe_file=tmp_path)
    (tmp_path / "r.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as UTF-8 text"):
        resolve("m.pt", target="openvino", overrides={"out": "o"}, recipe_file=tmp_path / "r.toml")


def test_flags_are_checked_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`max_dorp` is no setting: did you mean `max_drop`"):
        _resolve(tmp_path, max_dorp=0.1)
    with pytest.raises(InputError, match=r"`--input` \(='3,x'|`--input` \(='x'\)"):
        _resolve(tmp_path, input_shape="3,x")
    with pytest.raises(InputError, match=r"`--arch-args` .* is no inline toml table"):
        _resolve(tmp_path, arch_args="width=2")
    with pytest.raises(InputError, match="holds what toml cannot write"):
        _resolve(tmp_path, arch_args={"width": None})


def test_what_must_be_said(tmp_path: Path) -> None:
    assert resolve("m.pt", target="openvino").out == Path.cwd() / "m-openvino"
    with pytest.raises(InputError, match="`model` is missing"):
        resolve(target="openvino", overrides={"out": "o"})
    with pytest.raises(InputError, match="`target` is missing"):
        resolve("m.pt", overrides={"out": "o"})


def test_a_file_beside_the_model_cannot_vouch_for_it(tmp_path: Path) -> None:
    vouching = "[model]\ntrust_pickle = true\n"
    with pytest.raises(InputError, match="pass --trust-pickle yourself"):
        _resolve(tmp_path, vouching)
    assert _resolve(tmp_path, vouching, trust_pickle=True).trust_pickle
    assert not _resolve(tmp_path, vouching, trust_pickle=False).trust_pickle
    assert _resolve(tmp_path, "", vouching).trust_pickle


def test_recipe_is_frozen_and_its_arch_args_are_a_copy(tmp_path: Path) -> None:
    given_args = {"widths": [1, 2]}
    found = _resolve(tmp_path, arch_args=given_args)
    given_args["widths"].append(3)
    assert found.arch_args == {"widths": [1, 2]}
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.seed = 4  # type: ignore[misc]


_fraction = st.floats(0, 1)
_characters = st.characters(codec="utf-8", exclude_characters="\x00")
_text = st.text(_characters, min_size=1).filter(lambda text: text == text.strip() and text != "none")
_loss = st.floats(1e-9, 1) | st.decimals("0.001", 100, places=3).map(lambda share: f"{share:f}%")
_overrides = st.fixed_dictionaries(
    {},
    optional={
        "arch": st.sampled_from(["/a b/ü.py:net", "none"]),
        "arch_args": st.dictionaries(_text, st.integers(-5, 5) | st.booleans() | _text | st.lists(st.floats(-1, 1)), max_size=3),
        "input_shape": st.lists(st.integers(1, 512), min_size=2, max_size=4),
        "data": st.just("/d/ä.npz"),
        "mean": st.lists(st.floats(-1e9, 1e9), max_size=3),
        "std": st.lists(st.floats(1e-12, 10), max_size=3),
        "pad": st.integers(0, 9),
        "classes": st.lists(_text, max_size=4),
        "standardize": st.sampled_from(["image", "none"]),
        "drop_overlap": st.booleans(),
        "trust_pickle": st.booleans(),
        "preset": st.sampled_from(["none", "celeba", "clinical"]),
        "confidence": st.floats(0.6, 0.999),
        "metric": st.sampled_from(["accuracy", "macro_f1", "auc"]),
        "class_metric": st.sampled_from(["recall", "f1"]),
        "max_drop": _loss,
        "max_class_drop": _loss,
        "max_group_drop": _loss | st.just("none"),
        "max_ece_rise": st.floats(1e-9, 1) | st.just("none"),
        "max_regressed": st.floats(1e-9, 1) | st.just("none"),
        "threshold": _fraction,
        "positive": st.lists(_text, max_size=2),
        "reason": _text,
        "sign_key": st.sampled_from(["/k/ü.pem", "none"]),
        "min_class_f1": st.floats(0, 0.999),
        "min_agreement": st.floats(0, 0.999),
        "strategy": st.sampled_from(["allocate", "budget", "stepwise", "local"]),
        "prefer": st.sampled_from(["balanced", "latency", "size"]),
        "floors": st.sampled_from(["S1", "none"]),
        "stopping": st.sampled_from(["wilson", "z-score"]),
        "budgets": st.lists(st.floats(1e-9, 1), max_size=4),
        "energy": _fraction | st.just("none"),
        "retrain": st.booleans(),
        "epochs": st.integers(1, 99),
        "learning_rate": st.floats(1e-9, 1) | st.just("none"),
        "optimizer": st.sampled_from(["adamw", "sgd"]),
        "horizontal_flip": st.booleans(),
        "latency_target_ms": st.floats(1e-9, 1e9) | st.just("none"),
        "speedup": st.floats(1, 1e9, exclude_min=True) | st.just("none"),
        "seed": st.integers(0, 2**32 - 1),
        "threads": st.integers(1, 64) | st.just("none"),
        "batch": st.integers(1, 64),
        "compute_capability": st.lists(st.sampled_from(["7.5", "8.6", "8.9", "12.0"]), max_size=4) | st.just("current"),
    },
)


@settings(max_examples=100, deadline=None)
@given(_overrides)
def test_the_lock_file_reads_back_equal(tmp_path_factory: pytest.TempPathFactory, overrides: dict[str, Any]) -> None:
    folder = tmp_path_factory.mktemp("lock")
    recipe = _resolve(folder, **overrides)
    # Whatever stands beside the model by then must not matter.
    (folder / "optimize.toml").write_text("[search]\nenergy = 0.123\nseed = 9\n[profile]\nthreads = 3\n[data]\nclasses = ['q']\n")
    (folder / "recipe.lock.toml").write_text(to_toml(recipe), encoding="utf-8")
    assert resolve(recipe_file=folder / "recipe.lock.toml") == recipe
    assert to_toml(resolve(recipe_file=folder / "recipe.lock.toml")) == to_toml(recipe)


def test_a_preset_fills_what_nobody_says(tmp_path: Path) -> None:
    clinical = _resolve(tmp_path, preset="clinical", max_drop="3pp").limits
    assert (clinical.preset, clinical.max_drop, clinical.max_class_drop, clinical.max_ece_rise) == ("clinical", 0.03, 0.05, 0.02)
    assert _resolve(tmp_path, preset="cifar").limits == Limits(0.03, 0.09, verdict="point", preset="cifar")
    assert _resolve(tmp_path).limits == Limits()
    with pytest.raises(InputError, match=r"`--preset` .* must be one of none, celeba, cifar, bloodmnist, clinical"):
        _resolve(tmp_path, preset="clinic")


def test_a_limit_in_percent_is_a_share_of_the_originals_figure(tmp_path: Path) -> None:
    limits = _resolve(tmp_path, max_drop="1%", max_class_drop="5pp", min_class_f1="85%").limits
    assert (limits.max_drop, isinstance(limits.max_drop, Relative)) == (0.01, True)
    assert (limits.max_class_drop, isinstance(limits.max_class_drop, Relative)) == (0.05, False)
    assert (limits.min_class_f1, isinstance(limits.min_class_f1, Relative)) == (0.85, False)


def test_a_recipe_says_how_to_load_the_model_again(brought: Path) -> None:
    recipe = resolve(brought, target="onnxruntime")
    assert load_model(**recipe.loader_arguments).fingerprint == runs.original().fingerprint
