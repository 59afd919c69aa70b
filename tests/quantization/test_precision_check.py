"""A variant is what it claims, or says what it is; the runtimes are stand-ins here, real ones in `tests/backends/test_kept_layers.py`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from optimize.backends.artifact import Artifact
from optimize.quantization import precision_check
from optimize.quantization.precision_check import Claim, checked, listed
from optimize.quantization.variant import Variant

WEIGHTED = frozenset({"a", "b", "c"})


@pytest.fixture
def variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Variant:
    monkeypatch.setattr(precision_check, "with_weights", lambda _: set(WEIGHTED))
    (tmp_path / "model").write_text("")
    artifact = Artifact.save(tmp_path, target="openvino", precision="int8", input_shape=(1, 8, 8), runtime="1", files=("model",))
    return Variant("int8", artifact=artifact, target="openvino")


def test_int8_everywhere_is_int8(variant: Variant) -> None:
    assert checked(variant, {**dict.fromkeys(WEIGHTED, "int8"), "relu": "f32"}, Path()) is variant


def test_layers_that_run_in_float_unasked_are_in_the_name_and_in_the_list(variant: Variant) -> None:
    found = checked(variant, {"a": "int8", "b": "f32", "c": "f32"}, Path())
    assert (found.precision, found.kept, found.in_float, found.why) == ("int8+f32", (), ("b", "c"), "")
    assert found.whole
    assert found.as_dict(found)["layers_in_float"] == ["b", "c"]
    assert found.artifact is not None
    assert Artifact.read(found.artifact.folder).precision == "int8+f32"


def test_a_mix_lists_what_was_kept_and_what_was_not(variant: Variant) -> None:
    mix = replace(variant, precision="int8+bf16", kept=("a", "sum"))
    found = checked(mix, {"a": "bf16", "b": "f32", "c": "int8"}, Path())
    assert (found.precision, found.as_dict(found)["layers_in_float"]) == ("int8+bf16", ["a", "sum", "b"])
    assert not found.whole


@pytest.mark.parametrize(
    ("precision", "kept", "ran", "why"),
    [
        ("int8+f32", ("a",), {"a": "int8", "b": "int8", "c": "int8"}, "claims int8+f32, but a runs in int8 and was to stay in float"),
        ("int8", (), {"a": "f32", "b": "f32", "c": "f32"}, "claims int8, but no layer with weights runs in int8"),
        ("int8+f32", ("a", "b"), {"a": "f32", "b": "f32", "c": "f32"}, "claims int8+f32, but no layer with weights runs in int8"),
        ("bf16", (), {"a": "f32", "b": "f32", "c": "f32"}, "claims bf16, but no layer with weights runs in bf16"),
        ("int8", (), {"a": "int8", "": "f32"}, "claims int8, but b, c is not found in the compiled model: what it runs in is not known"),
    ],
)
def test_a_claim_that_is_false_is_left_behind(
    variant: Variant, precision: str, kept: tuple[str, ...], ran: dict[str, str], why: str
) -> None:
    found = checked(replace(variant, precision=precision, kept=kept), ran, Path())
    assert found.why == why
    assert found.verdict is None


def test_all_of_it_kept_in_float_is_a_mix_without_int8(variant: Variant) -> None:
    """What lies between the layers may still be in int8: there is no layer that the claim could be wrong about."""
    found = checked(replace(variant, precision="int8+f32", kept=tuple(sorted(WEIGHTED))), dict.fromkeys(WEIGHTED, "f32"), Path())
    assert found.why == ""


def test_one_layer_alone_that_has_no_integer_kernel_is_ranked_all_the_same(variant: Variant) -> None:
    """It is made to rank layers by and never ships; the layer does no harm, and the ranking must not take it for the worst."""
    alone, ran = replace(variant, precision="int8+f32", kept=("a", "b")), dict.fromkeys(WEIGHTED, "f32")
    assert checked(alone, ran, Path(), rough=True).why == ""
    assert "no layer with weights runs in int8" in checked(alone, ran, Path()).why


def test_a_runtime_that_is_silent_on_some_layers_is_believed_on_those(variant: Variant) -> None:
    quiet = replace(variant, target="tensorrt")
    assert checked(quiet, {}, Path()) is quiet
    assert checked(quiet, {"a": "int8"}, Path()) is quiet
    assert "no layer with weights runs in int8" in checked(quiet, {"a": "f16"}, Path()).why
    assert Claim("int8+f16", ("a",), complete=False).problem({"a": "int8"}, WEIGHTED).startswith("claims int8+f16, but a runs in int8")


def test_a_line_names_six_layers_at_most() -> None:
    assert listed(list("abcdef")) == "a, b, c, d, e, f"
    assert listed(list("abcdefgh")) == "a, b, c, d, e, f and 2 more"
