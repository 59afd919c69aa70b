"""Hugging Face folders: against transformers' own loading of the same folder, and what is wrong with a folder in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from optimize.data.dataset import load_data
from optimize.data.preprocessing import Preprocessing
from optimize.data.resizing import Resizing
from optimize.errors import InputError
from optimize.files import sha256, size_bytes
from optimize.loading.formats import huggingface
from optimize.loading.huggingface_folder import class_names, input_shape, preparation
from optimize.loading.load import load_model

RNG = np.random.default_rng(0)
VIT = {
    "model_type": "vit",
    "architectures": ["ViTForImageClassification"],
    **{"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 16, "patch_size": 8},
    "id2label": {"0": "dog", "1": "cat"},
}


def written(folder: Path, config: dict[str, Any], weights: dict[str, torch.Tensor] | None = None) -> Path:
    """A folder of this `config.json`, with weights that are small where none are given."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights or {"a": torch.zeros(1)}, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="session")
def transformers() -> Any:
    """The package transformers, where it is installed and loads beside this torch."""
    package = pytest.importorskip("transformers")
    try:
        _ = package.ViTForImageClassification, package.SegformerForSemanticSegmentation
    except (ImportError, RuntimeError) as problem:
        pytest.skip(f"transformers does not load: {problem.__cause__ or problem}")
    return package


@pytest.fixture(scope="session")
def vit(transformers: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    settings = transformers.ViTConfig(**{key: value for key, value in VIT.items() if key not in ("model_type", "architectures")})
    transformers.ViTForImageClassification(settings).save_pretrained(folder := tmp_path_factory.mktemp("vit"))
    return Path(folder)


def test_a_classifier_is_that_of_transformers(vit: Path, transformers: Any) -> None:
    candidate = load_model(vit)
    expected = transformers.ViTForImageClassification.from_pretrained(vit, local_files_only=True).eval()
    inputs = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(candidate.module(inputs), expected(inputs).logits)
    assert candidate.notes[0] == f"{vit.name} is a ViTForImageClassification of transformers, for inputs of 3,16,16"
    assert class_names(vit) == ("dog", "cat")


def test_a_segmenter_in_several_files_gives_masks_of_the_inputs_size(transformers: Any, tmp_path: Path) -> None:
    sizes = {"num_encoder_blocks": 1, "depths": [1], "hidden_sizes": [8], "num_attention_heads": [1], "sr_ratios": [1]}
    further = {"patch_sizes": [3], "strides": [2], "mlp_ratios": [1], "decoder_hidden_size": 8, "num_labels": 3}
    network = transformers.SegformerForSemanticSegmentation(transformers.SegformerConfig(**sizes, **further)).eval()
    network.save_pretrained(tmp_path, max_shard_size="2KB")
    assert not (tmp_path / "model.safetensors").exists()
    inputs = torch.randn(2, 3, 16, 16)
    expected = torch.nn.functional.interpolate(network(inputs).logits, size=(16, 16), mode="bilinear")
    torch.testing.assert_close(load_model(tmp_path, input_shape=(3, 16, 16)).module(inputs), expected)
    with pytest.raises(InputError, match=r"`input` is missing, and `model` .* does not say it"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_size": 2**20}, r"config.json asks for .* values, and the weights have"),
        ({"num_hidden_layers": 2}, r"16 weights of ViTForImageClassification are missing \(vit\."),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, r"2 weights of ViTForImageClassification are of another shape .*classifier"),
        ({"architectures": ["ViTModel"]}, r"is a ViTModel, and classifiers of images and semantic segmenters are read"),
        ({"model_type": "mine", "auto_map": {"AutoModel": "mine.Net"}}, r"does not have, and the folder's own code \(auto_map\)"),
        ({"hidden_size": "large"}, r"config.json does not fit|cannot be made"),
        ({"quantization_config": {"bits": 4}}, r"is quantized already"),
    ],
)
def test_settings_that_do_not_fit(vit: Path, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    config = {**json.loads((vit / "config.json").read_text()), **changes}
    with pytest.raises(InputError, match=words):
        load_model(written(tmp_path / "net", config, load_file(vit / "model.safetensors")))


def test_code_that_a_folder_names_is_not_asked_for(vit: Path, tmp_path: Path) -> None:
    foreign = {"auto_map": {"AutoModel": "mine.Net"}, "attn_implementation": "someone/kernel", "_attn_implementation": "someone/kernel"}
    config = {**json.loads((vit / "config.json").read_text()), **foreign}
    weights = {**load_file(vit / "model.safetensors"), "mine.weight": torch.zeros(1)}
    candidate = load_model(written(tmp_path / "net", config, weights))
    assert "left out of the weights, as no part of the network: mine.weight" in candidate.notes


def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    folder = written(tmp_path / "net", VIT)
    index = folder / "model.safetensors.index.json"

    def change(file: Path, content: bytes | None) -> Callable[[], object]:
        return file.unlink if content is None else lambda: file.write_bytes(content)

    states: list[tuple[Callable[[], object], str]] = [
        (change(folder / "config.json", b"{"), r"config.json cannot be read as JSON"),
        (change(folder / "config.json", b"[]"), r"config.json holds a list and no object"),
        (change(folder / "config.json", b'{"image_size": 8, "depths": [1, 99999]}'), r"states depths = \[1, 99999\], at most 10,000"),
        (change(index, b'{"weight_map": {"a": "../a.safetensors"}}'), ""),
        (change(folder / "model.safetensors", None), r"names '../a.safetensors', which is no .safetensors in this folder"),
        (change(index, b'{"weight_map": {"a": "b.safetensors"}}'), r"lacks b.safetensors, which model.safetensors.index.json names"),
        (change(folder / "pytorch_model.bin", b"\x80"), ""),
        (change(index, None), r"has no model.safetensors; it has pytorch_model.bin: save it again with save_pretrained"),
    ]
    for make, words in states:
        make()
        if words:
            with pytest.raises(InputError, match=words):
                load_model(folder)
    (tmp_path / "net.py").write_text("def make():\n    return None\n")
    with pytest.raises(InputError, match="holds a whole network: leave --arch out"):
        load_model(written(folder, VIT), arch=f"{tmp_path}/net.py:make")


def test_the_weights_alone_lead_to_their_folder(tmp_path: Path) -> None:
    folder = written(tmp_path / "net", VIT)
    with pytest.raises(InputError, match=r"or the folder .*net, whose config.json describes it"):
        load_model(folder / "model.safetensors", input_shape=(3, 8, 8))


def test_transformers_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(InputError, match=r"needs transformers .*: pip install 'optimize\[huggingface\]'"):
        huggingface.read(written(tmp_path / "net", VIT), trust_pickle=False, code=tmp_path).build(())


@pytest.mark.parametrize(
    ("stated", "resizing", "shape"),
    [
        ({"size": {"height": 20, "width": 24}}, Resizing((20, 24)), (20, 24)),
        ({"size": 20}, Resizing((20, 20)), (20, 20)),
        ({"size": {"shortest_edge": 20}, "do_center_crop": True, "crop_size": 18}, Resizing((20,), (18, 18)), (18, 18)),
        ({"size": {"shortest_edge": 14}, "crop_pct": 0.875}, Resizing((16,), (14, 14)), (14, 14)),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, Resizing((384, 384)), (384, 384)),
        ({"size": {"height": 20, "width": 20}, "resample": 3}, Resizing((20, 20), (), "bicubic"), (20, 20)),
        ({"do_resize": False, "do_center_crop": True, "crop_size": {"height": 10, "width": 12}}, Resizing((), (10, 12)), (10, 12)),
    ],
)
def test_the_preparation_of_images(tmp_path: Path, stated: dict[str, Any], resizing: Resizing, shape: tuple[int, int]) -> None:
    (written(tmp_path, VIT) / "preprocessor_config.json").write_text(json.dumps(stated))
    made = preparation(tmp_path)
    assert Resizing(made["resize"], made["crop"], made["interpolation"]) == resizing  # type: ignore[arg-type]
    assert input_shape(tmp_path) == (3, *shape)


@pytest.mark.parametrize(
    ("stated", "formula"),
    [
        ({"image_mean": [0.485] * 3, "image_std": [0.229] * 3}, lambda x: (x / 255 - 0.485) / 0.229),
        ({"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_factor": 1 / 127.5}, lambda x: (x / 127.5 - 0.5) / 0.5),
        ({"image_mean": [120.0] * 3, "image_std": [60.0] * 3, "do_rescale": False}, lambda x: (x - 120) / 60),
        ({"do_normalize": False, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}, lambda x: x / 255),
        ({"do_normalize": False, "do_rescale": False}, lambda x: x),
    ],
)
def test_the_scale_of_pixels(tmp_path: Path, stated: dict[str, Any], formula: Callable[[np.ndarray], np.ndarray]) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
    made = preparation(tmp_path)
    images = RNG.integers(0, 256, (2, 4, 4, 3), np.uint8)
    inputs = Preprocessing(made["mean"], made["std"])(images)  # type: ignore[arg-type]
    np.testing.assert_allclose(inputs, formula(images.astype(np.float64)).transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        (None, r"preprocessor_config.json does not exist: pass mean, std"),
        ({"do_flip_channel_order": True}, r"states do_flip_channel_order, which is not done here"),
        ({"resample": 4}, r"states resample = 4, which is not done here"),
        ({"rescale_factor": "x"}, r"states a scale, mean or std that does not fit"),
    ],
)
def test_preparations_that_are_not_done(tmp_path: Path, stated: dict[str, Any] | None, words: str) -> None:
    if stated is not None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
    with pytest.raises(InputError, match=words):
        preparation(tmp_path)


def test_labels_are_numbered_as_in_the_network() -> None:
    images = RNG.integers(0, 256, (2, 12, 4, 4, 1), np.uint8)
    numbers = np.arange(12) % 2
    arrays = {f"{name}_images": images[place] for place, name in enumerate(("val", "test"))}
    labelled = {**arrays, "val_labels": numbers, "test_labels": numbers}
    named = load_data({**labelled, "classes": np.array(["cat", "dog"])}, model_classes=("Dog", "Cat"))
    assert (named.classes, named.test.labels.tolist()) == (("Dog", "Cat"), (1 - numbers).tolist())
    assert named.notes[0] == "Labels are numbered as in the network: Dog = 0, Cat = 1."
    text = np.array(["cat", "dog"])[numbers]
    of_text = load_data({**arrays, "val_labels": text, "test_labels": text}, model_classes=("dog", "cat"))
    assert of_text.test.labels.tolist() == (1 - numbers).tolist()
    assert load_data(labelled, model_classes=("dog", "cat")).classes == ("dog", "cat")
    assert load_data(labelled, model_classes=("dog\n", "cat")).classes == ("dog\\n", "cat")
    # what the user says counts, and names that the network does not know change nothing
    for further in ({"classes": ("a", "b")}, {}):
        kept = load_data({**labelled, "classes": np.array(["a", "b"])}, model_classes=("dog", "cat"), **further)  # type: ignore[arg-type]
        assert (kept.classes, kept.test.labels.tolist()) == (("a", "b"), numbers.tolist())


def test_placeholders_are_no_names(tmp_path: Path) -> None:
    assert class_names(written(tmp_path, {**VIT, "id2label": {"0": "LABEL_0", "1": "LABEL_1"}})) == ()
    assert class_names(tmp_path / "nowhere") == ()


def test_the_hash_of_a_folder_is_that_of_the_list_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"abc")
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / ".hidden").write_bytes(b"x")
    # the known hashes of "abc" and of nothing
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (listed := tmp_path.with_suffix(".txt")).write_text(f"{empty}  a\n{abc}  b\n")
    assert sha256(tmp_path) == sha256(listed)
    assert size_bytes(tmp_path) == 3
