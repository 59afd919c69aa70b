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
TIMM = [
    "beit_base_patch16_224", "halonet_h1", "eca_halonext26ts", "gernet_s", "repvgg_a0", "cait_xxs24_224", "coat_tiny",
    "coat_lite_tiny", "convit_tiny", "convmixer_768_32", "test_convnext", "test_convnext3", "cpubone_nano", "crossvit_tiny_240",
    "crossvit_9_240", "csatv2", "cs3darknet_s", "cs3darknet_m", "cspnext_tiny", "davit_tiny", "deit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224", "densenet121", "densenetblur121d", "dla46x_c", "dla46_c", "dpn48b", "dpn68",
    "edgenext_xx_small", "edgenext_x_small", "efficientformer_l1", "efficientformerv2_s0", "tinynet_e", "mnasnet_050",
    "efficientnet_lite0", "tf_efficientnet_b0", "efficientnet_b0", "mobilenetv2_100", "efficientvim_m1", "efficientvit_b0",
    "efficientvit_b1", "efficientvit_m0", "eva02_tiny_patch14_224", "fasternet_t0", "fasternet_t1", "fastvit_t8", "focalnet_tiny_srf",
    "gcvit_xxtiny", "ghostnet_050", "ghostnetv3_050", "hardcorenas_a", "hgnetv2_b0", "hgnetv2_b1", "hiera_tiny_224", "sam2_hiera_tiny",
    "hrnet_w18_small", "iformer_t", "inception_next_atto", "inception_resnet_v2", "inception_v3", "inception_v4", "lcnetv2_small",
    "levit_128s", "levit_128", "lowformer_b0", "test_mambaout", "mambaout_femto", "test_coatnet", "test_maxvit", "caformer_s18",
    "convformer_s18", "gmlp_ti16_224", "gmixer_12_224", "mixer_s32_224", "resmlp_12_224", "mobilenetv3_small_050",
    "mobilenetv3_large_100", "mobilenetv4_conv_small", "lcnet_035", "mobilenetv5_base", "mobilevit_xxs", "mobilevitv2_050",
    "mvitv2_tiny", "nest_tiny", "nextvit_small", "test_nfnet", "nfnet_l0", "dm_nfnet_f0", "eca_nfnet_l0", "pit_ti_224",
    "pnasnet5large", "pvt_v2_b0", "pvt_v2_b1", "rdnet_tiny", "regnetx_002", "regnety_002", "regnetz_b16", "repghostnet_050",
    "repvit_m1", "res2next50", "res2net50_14w_8s", "resnest14d", "resnest26d", "resnet10t", "resnet18", "resnet50", "seresnet18",
    "skresnet18", "ecaresnet26t", "resnetv2_18", "resnetv2_18d", "resnetv2_50", "rexnet_100", "selecsls42", "legacy_seresnet18",
    "sequencer2d_s", "shvit_s1", "starnet_s050", "swiftformer_xs", "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256",
    "swinv2_cr_tiny_224", "tiny_vit_5m_224", "tnt_s_patch16_224", "tresnet_m", "twins_svt_small", "twins_pcpvt_small", "vgg11_bn",
    "visformer_tiny", "test_vit", "vit_tiny_patch16_224", "vit_tiny_r_s16_p8_224", "test_vit_relpos", "samvit_base_patch16",
    "vitamin_small_224", "volo_d1_224", "ese_vovnet19b_slim_dw", "xception41", "xcit_nano_12_p8_224",
]
"""The smallest one or two networks of every file of timm, and some that are widely used."""
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

        return [name for name in TIMM if timm.is_model(name)]
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
        except Exception:  # whatever a builder raises on a setting that it does not know
            continue
    raise RuntimeError("it runs at no size that was tried")


def _side(module: nn.Module, channels: int, usual: Any = None) -> tuple[int, int]:
    for side in SIZES:
        try:
            with torch.no_grad():
                module(torch.randn(2, channels, side, side))
        except Exception:  # whatever a network raises on an input that is too small
            continue
        return side, side
    if usual is None:
        raise RuntimeError("it runs at no size that was tried")
    return int(usual[0]), int(usual[1])


def every(families: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield (family, name) of all networks; a family whose library is not installed is left out."""
    for family in families:
        try:
            yield from ((family, name) for name in names(family))
        except ImportError:
            continue
