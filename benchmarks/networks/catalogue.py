"""Names of networks by family, and how each is built: random weights, the smallest input that it takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from benchmarks.networks.odd_ones import ODD
from benchmarks.networks.without_operators import torchvision

FAMILIES = ("torchvision", "timm", "monai", "smp", "odd")
MONAI: dict[str, dict[str, Any]] = {
    "AttentionUnet": {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": (8, 16, 32), "strides": (2, 2)},
    "BasicUNet": {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "features": (8, 8, 16, 32, 64, 8)},
    "BasicUNetPlusPlus": {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "features": (8, 8, 16, 32, 64, 8)},
    "DenseNet121": {"spatial_dims": 2, "in_channels": 1, "out_channels": 2},
    "DynUNet": {
        **{"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "kernel_size": [3, 3, 3]},
        **{"strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": [8, 16, 32]},
    },
    "EfficientNetBN": {"model_name": "efficientnet-b0", "spatial_dims": 2, "in_channels": 1, "num_classes": 2, "pretrained": False},
    "FlexibleUNet": {"in_channels": 1, "out_channels": 2, "backbone": "efficientnet-b0", "pretrained": False},
    "SegResNet": {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "init_filters": 8},
    "SENet154": {"spatial_dims": 2, "in_channels": 1, "num_classes": 2},
    "UNet": {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": (8, 16, 32), "strides": (2, 2), "num_res_units": 2},
    "UNETR": {"in_channels": 1, "out_channels": 2, "img_size": 64, "hidden_size": 64, "mlp_dim": 128, "num_heads": 4, "spatial_dims": 2},
    "ViT": {"in_channels": 1, "img_size": 64, "patch_size": 16, "hidden_size": 64, "mlp_dim": 128, "num_heads": 4, "spatial_dims": 2},
}
SMP = ("Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus", "PAN", "UPerNet", "Segformer")
SIZES = (64, 96, 128, 160, 224, 299)
"""Sides that are tried, the smallest first."""


@dataclass(frozen=True)
class Built:
    """A network of the catalogue.

    Args:
        module: the network, in eval mode.
        shape: shape of one input, (C, *spatial).
    """

    module: nn.Module
    shape: tuple[int, ...]


def names(family: str) -> list[str]:
    """The names of a family's networks.

    Raises:
        ImportError: when its library is not installed.
    """
    if family == "odd":
        return sorted(ODD)
    torchvision()
    if family == "torchvision":
        from torchvision import models

        kinds = (models, models.segmentation)
        return [name for kind in kinds for name in models.list_models(kind)]
    if family == "timm":
        import timm

        return _one_of_each(timm.list_models())
    if family == "monai":
        import monai.networks.nets as nets

        return [name for name in MONAI if hasattr(nets, name)]
    __import__("segmentation_models_pytorch")
    return list(SMP)


def build(family: str, name: str) -> Built:
    """Build a network with random weights, and find the smallest input that it takes."""
    torch.manual_seed(0)
    if family == "odd":
        module, shape = ODD[name]()
        return Built(module.eval(), shape)
    torchvision()
    if family == "timm":
        return _timm(name)
    if family == "torchvision":
        from torchvision import models

        further = {"weights_backbone": None} if name in models.list_models(models.segmentation) else {}
        if name in ("googlenet", "inception_v3"):
            further["init_weights"] = False
        module, channels = models.get_model(name, weights=None, **further), 3
    elif family == "monai":
        import monai.networks.nets as nets

        module, channels = getattr(nets, name)(**MONAI[name]), 1
    else:
        import segmentation_models_pytorch as smp

        module, channels = getattr(smp, name)(encoder_name="resnet18" if name != "Segformer" else "mit_b0", encoder_weights=None), 3
    return Built(module.eval(), (channels, *_side(module.eval(), channels)))


def _timm(name: str) -> Built:
    import timm

    # a transformer of a fixed size is built for a small one; a network that takes any size is built as it is
    for further in ({"img_size": 64}, {"img_size": 112}, {}):
        try:
            module = timm.create_model(name, pretrained=False, num_classes=10, **further).eval()
            channels, *size = timm.data.resolve_data_config(module.pretrained_cfg)["input_size"]
            fixed = further.get("img_size")
            sides = (fixed, fixed) if fixed else _side(module, channels, size)
            with torch.no_grad():
                module(torch.randn(2, channels, *sides))
            return Built(module, (channels, *sides))
        except Exception:  # noqa: S112  # whatever a builder raises on a setting that it does not know
            continue
    raise RuntimeError("it runs at no size that was tried")


def _side(module: nn.Module, channels: int, usual: Any = None) -> tuple[int, int]:
    for side in SIZES:
        try:
            with torch.no_grad():
                module(torch.randn(2, channels, side, side))
        except Exception:  # noqa: S112  # whatever a network raises on an input that is too small
            continue
        return side, side
    if usual is None:
        raise RuntimeError("it runs at no size that was tried")
    return int(usual[0]), int(usual[1])


def _one_of_each(listed: list[str]) -> list[str]:
    """One name of each kind of network: those of one kind differ in size alone, and begin with the same letters."""
    kinds: dict[str, str] = {}
    for name in listed:
        kind = "".join(letter for letter in name.partition("_")[0] if letter.isalpha())
        second = name.split("_")[1] if "_" in name else ""
        # the shortest names are the plain, small ones
        key = f"{kind}-{second if second.isalpha() and len(second) > 2 else ''}"
        kinds[key] = min((kinds.get(key, name), name), key=lambda text: (_weight(text), len(text), text))
    return sorted(kinds.values())


def _weight(name: str) -> int:
    """How large a network is, by the words of its name."""
    small = ("pico", "femto", "atto", "nano", "tiny", "small", "lite", "_t", "_s", "18", "050", "_b0", "002")
    large = ("giant", "huge", "large", "xl", "gigantic", "_l", "_h", "_g", "152", "enormous")
    return any(word in name for word in large) * 2 - any(word in name for word in small)


def every(families: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield (family, name) of all networks; a family whose library is not installed is left out."""
    for family in families:
        try:
            yield from ((family, name) for name in names(family))
        except ImportError:
            continue
