"""A Hugging Face folder: an image classifier or a semantic segmenter as `save_pretrained` writes it, `config.json` beside safetensors.

The package transformers builds the network from the settings in `config.json`. Its own code alone is used: what a folder brings along
(`auto_map`) is never run, and nothing is fetched. The weights are read by this package, and all of the network's must be there.

    config.json                     "model_type": "resnet", "architectures": ["ResNetForImageClassification"], sizes, names of classes
    model.safetensors               the weights; or several files, and an index that says which name lies in which
    preprocessor_config.json        what happens to images (`--preprocessing huggingface`)
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from optimize.errors import InputError
from optimize.loading.factory import describe
from optimize.loading.formats import safetensors_file
from optimize.loading.huggingface_folder import CONFIG, input_shape, is_folder, read_json, weight_files
from optimize.loading.libraries import ONE_INDEX
from optimize.loading.model_formats import NetworkFile, ShapedNetwork

NAMED = "Hugging Face folder"
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY")
MAX_LAYERS = 10_000
"""Most layers, blocks or stages that settings may state; they are made before their weights are compared with the file."""
ROOM = 2**20
"""Values that a network may have beyond twice those of its file, such as tables of positions."""
_OTHER = "save model.state_dict() with torch.save and pass --arch file.py:factory"
_LAYERS = ("layer", "depth", "block", "stage")
_FOREIGN = ("auto_map", "attn_implementation", "experts_implementation")
"""Parts of settings' names that can name code to be fetched; transformers then chooses its own."""


def recognises(path: Path, head: bytes) -> bool:
    """Return whether the path is a folder with a `config.json` and weights."""
    return path.is_dir() and is_folder(path)


def read(path: Path, *, trust_pickle: bool, code: Path) -> NetworkFile:
    """Return the folder as what builds its network.

    Raises:
        InputError: when files of it are missing.
    """
    weight_files(path)  # raises before transformers, which takes seconds, is imported
    return NetworkFile(partial(_built, path))


class HuggingFaceNetwork(ShapedNetwork):
    """A network of transformers that takes a tensor.

    Args:
        network: network of transformers, for images.
        input_shape: (C, H, W).
        masks: whether it is a segmenter, whose logits are enlarged to the size of the input.
        notes: sentences on what was read.
    """

    def __init__(self, network: nn.Module, input_shape: tuple[int, ...], masks: bool, notes: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.input_shape, self.masks, self.notes = network, input_shape, masks, notes

    def forward(self, inputs: torch.Tensor) -> Any:
        """(N, C, H, W) -> what the network returns, by name; of a segmenter the logits, (N, K, H, W)."""
        returned = self.network(pixel_values=inputs)
        if not self.masks:
            return returned
        # as transformers' own `post_process_semantic_segmentation`
        return functional.interpolate(returned.logits, size=inputs.shape[2:], mode="bilinear", align_corners=False)


def _built(path: Path, given: Sequence[int]) -> ShapedNetwork:
    config = read_json(path / CONFIG)
    shape = tuple(given) or input_shape(path)
    if not shape:
        raise InputError(f"`input` is missing, and `model` (={path}) does not say it: pass --input 3,224,224 (channels, then sizes).")
    _require_bounded(config, path)
    with _offline():
        auto = _transformers(path)
        made, masks = _class(auto, config, path)
        settings = _settings(auto, config, path)
        weights = _read_weights(path)
        _require_room(made, settings, weights, path)
        network, left_out = _filled(made, settings, weights, path)
    notes = [f"{path.name} is a {made.__name__} of transformers, for inputs of {','.join(map(str, shape))}"]
    if masks:
        notes.append("its masks are enlarged to the size of the input")
    if left_out:
        notes.append(f"left out of the weights, as no part of the network: {_few(left_out)}")
    return HuggingFaceNetwork(network, shape, masks, tuple(notes)).eval()


def _transformers(path: Path) -> Any:
    """Return the tables of transformers: its settings and its networks by the type of model."""
    try:
        import transformers
        from transformers.models.auto import configuration_auto, modeling_auto
    except ImportError as problem:
        raise InputError(f"`model` (={path}) needs transformers ({describe(problem)}): pip install 'optimize[huggingface]'.") from problem
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers, configuration_auto.CONFIG_MAPPING, modeling_auto


def _class(auto: Any, config: Mapping[str, Any], path: Path) -> tuple[Any, bool]:
    """Return the class of the network, and whether it gives masks.

    Raises:
        InputError: when it is none of transformers' own, or neither a classifier of images nor a segmenter.
    """
    transformers, settings, networks = auto
    kind, names = config.get("model_type"), config.get("architectures")
    name = str(names[0]) if isinstance(names, list) and names else ""
    if kind is None and isinstance(config.get("architecture"), str):
        raise InputError(
            f"`model` (={path}) is a folder of timm: pass the file of weights in it, and --arch timm:{config['architecture']} "
            "--preprocessing timm."
        )
    if not isinstance(kind, str) or kind not in settings:
        own = ", and the folder's own code (auto_map) is not run" if config.get("auto_map") else ""
        lacks = f"transformers {transformers.__version__} does not have"
        raise InputError(f"`model` (={path}) is of type {kind!r}, which {lacks}{own}: {_OTHER}.")
    classifiers, segmenters = (
        getattr(networks, f"MODEL_FOR_{task}_MAPPING_NAMES") for task in ("IMAGE_CLASSIFICATION", "SEMANTIC_SEGMENTATION")
    )
    for table, masks in ((classifiers, False), (segmenters, True)):
        known = table.get(kind, ())
        if name and name in ((known,) if isinstance(known, str) else known):
            try:
                return getattr(transformers, name), masks
            except (ImportError, RuntimeError) as problem:
                cause = problem.__cause__ or problem
                remedy = ONE_INDEX if "torchvision" in str(cause) else "see to what it needs"
                raise InputError(f"`model` (={path}): {name} of transformers does not load ({describe(cause)}): {remedy}.") from problem
    raise InputError(f"`model` (={path}) is a {name or kind}, and classifiers of images and semantic segmenters are read: {_OTHER}.")


def _settings(auto: Any, config: Mapping[str, Any], path: Path) -> Any:
    """Return the settings as an object of transformers, without what could fetch or run anything."""
    if config.get("quantization_config"):
        raise InputError(f"`model` (={path}) is quantized already (quantization_config): pass the weights from before quantization.")
    plain = _without_foreign(config)
    try:
        settings = auto[1][plain["model_type"]].from_dict(plain)
    except Exception as problem:  # whatever transformers raises on settings that do not fit
        raise InputError(f"`model` (={path}): {CONFIG} does not fit ({describe(problem)}): copy it again.") from problem
    # a backbone's own weights lie in the file too
    if getattr(settings, "use_pretrained_backbone", False):
        settings.use_pretrained_backbone = False
    return settings


def _without_foreign(value: Any) -> Any:
    """Return settings without names of code: `auto_map`, and implementations that transformers would fetch."""
    if isinstance(value, Mapping):
        return {key: _without_foreign(part) for key, part in value.items() if not any(word in key for word in _FOREIGN)}
    return [_without_foreign(part) for part in value] if isinstance(value, list) else value


def _require_bounded(config: Mapping[str, Any], path: Path) -> None:
    """Raise `InputError` when settings state more layers than any network has: each is made before weights are compared."""
    for key, value in config.items():
        counts = value if isinstance(value, list) else [value]
        if any(word in key for word in _LAYERS) and any(isinstance(count, int) and count > MAX_LAYERS for count in counts):
            raise InputError(f"`model` (={path}): {CONFIG} states {key} = {value!r}, at most {MAX_LAYERS:,} are made: copy it again.")
        if isinstance(value, Mapping) and key not in ("id2label", "label2id"):
            _require_bounded(value, path)


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = {}
    for file in weight_files(path):
        try:
            with file.open("rb") as opened:
                head = opened.read(16)
            if not safetensors_file.recognises(file, head):
                raise ValueError("it does not begin as safetensors do")
            part = safetensors_file.read(file, trust_pickle=False, code=path)
        except Exception as problem:  # whatever safetensors raises on a damaged file
            raise InputError(f"`model` (={path}): {file.name} is damaged safetensors ({describe(problem)}): copy it again.") from problem
        weights.update(part)
    return weights


def _require_room(made: Any, settings: Any, weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Raise `InputError` when the settings ask for far more values than the file holds, before memory is taken for them."""
    try:
        with torch.device("meta"):
            asked = sum(tensor.numel() for tensor in made(settings).state_dict().values())
    except (NotImplementedError, RuntimeError):
        return  # a network that computes with numbers as it is made cannot be made without them
    except Exception as problem:  # whatever a network raises on settings that do not fit
        raise InputError(f"`model` (={path}): {made.__name__} cannot be made ({describe(problem)}): copy {CONFIG} again.") from problem
    held = sum(tensor.numel() for tensor in weights.values())
    if asked > 2 * held + ROOM:
        raise InputError(f"`model` (={path}): {CONFIG} asks for {asked:,} values, and the weights have {held:,}: copy both again.")


def _filled(made: Any, settings: Any, weights: Mapping[str, torch.Tensor], path: Path) -> tuple[nn.Module, list[str]]:
    """Return the network with its weights, and the names in the file that are no part of it.

    transformers puts the weights in, because it knows by which names older versions of it saved them.
    """
    try:
        network, said = made.from_pretrained(
            None,
            config=settings,
            state_dict=dict(weights),
            output_loading_info=True,
            # they are refused below, by name
            ignore_mismatched_sizes=True,
            local_files_only=True,
            dtype=torch.float32,
        )
    except Exception as problem:  # whatever transformers raises on settings and weights that do not fit
        raise InputError(f"`model` (={path}): the weights do not fit {CONFIG} ({describe(problem)}): copy both again.") from problem
    reshaped = sorted(str(entry[0] if isinstance(entry, tuple) else entry) for entry in said["mismatched_keys"])
    missing = sorted({*map(str, said["missing_keys"])} - {*reshaped})
    for names, fault in ((reshaped, "of another shape than its settings say"), (missing, "missing")):
        if names:
            fault_in_words = f"{len(names)} weights of {made.__name__} are {fault} ({_few(names)})"
            raise InputError(f"`model` (={path}): {fault_in_words}: copy the folder again.")
    return network, sorted(map(str, said["unexpected_keys"]))


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f", and {len(names) - 3} more" if len(names) > 3 else "")


@contextmanager
def _offline() -> Iterator[None]:
    """Keep transformers from the network while the block runs."""
    before = {name: os.environ.get(name) for name in OFFLINE}
    os.environ.update(dict.fromkeys(OFFLINE, "1"))
    try:
        from huggingface_hub import constants

        kept, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    except ImportError:
        constants, kept = None, None
    try:
        yield
    finally:
        if constants is not None:
            constants.HF_HUB_OFFLINE = kept
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
