"""Tiny networks, one per way in which layers can share channels; all in eval mode with weights, norms and statistics drawn at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from optimize.candidate import Candidate, Floats, Reference

SHAPE = (3, 8, 8)


def ready(module: nn.Module, seed: int = 0) -> nn.Module:
    """The network in eval mode, with every norm's affine part and statistics away from their neutral values."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            fan = max(1, parameter[0].numel()) if parameter.dim() > 1 else 4
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * fan**-0.5)
        for layer in module.modules():
            if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm2d)):
                if layer.affine:
                    layer.weight.copy_(torch.rand(layer.num_features, generator=draw) + 0.5)
                if layer.running_mean is not None and layer.running_var is not None:
                    layer.running_mean.copy_(torch.randn(layer.num_features, generator=draw) * 0.3)
                    layer.running_var.copy_(torch.rand(layer.num_features, generator=draw) + 0.5)
    return module.eval()


def cases(count: int = 96, shape: tuple[int, ...] = SHAPE, seed: int = 1) -> Floats:
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


def candidate(module: nn.Module, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> Candidate:
    return Candidate(ready(module, seed), torch.from_numpy(cases(1, shape, seed=7)))


def reference(original: Candidate, count: int = 96, seed: int = 0) -> Reference:
    return Reference(original, cases(count, tuple(original.example.shape[1:])), seed)


def chain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 4),
    )


def chain_bn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(54, 4),
    )


def chain_inplace() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(8, 6, 3), nn.ReLU(inplace=True), nn.Conv2d(6, 4, 3)
    )


def prelu(parameters: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.PReLU(parameters), nn.Conv2d(8, 4, 3))


class Residual(nn.Module):
    """stem -> x + conv2(conv1(x)) -> head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv1, self.norm1 = nn.Conv2d(8, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv2, self.norm2 = nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))
        return self.head(functional.relu(x).mean((2, 3)))


class Concat(nn.Module):
    """Two branches side by side, their norm and one reader across both."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 5, 1)
        self.norm = nn.BatchNorm2d(11)
        self.join, self.head = nn.Conv2d(11, 7, 3), nn.Linear(7, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        both = functional.relu(self.norm(torch.cat([self.left(x), self.right(x)], 1)))
        return self.head(functional.relu(self.join(both)).mean((2, 3)))


class OntoConcat(nn.Module):
    """A layer added onto a concatenation: one layer's outputs belong to two groups."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 5, 1)
        self.across = nn.Conv2d(3, 11, 1)
        self.join = nn.Conv2d(11, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        both = torch.cat([self.left(x), self.right(x)], 1) + self.across(x)
        return self.join(functional.relu(both))


class Transposed(nn.Module):
    """Down, up by a transposed convolution, a skip beside it: a small U-Net."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.down = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 6, 2, 2)
        self.join, self.head = nn.Conv2d(12, 6, 3, padding=1), nn.Conv2d(6, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = functional.relu(self.enter(x))
        deep = functional.relu(self.down(functional.max_pool2d(skip, 2)))
        return self.head(functional.relu(self.join(torch.cat([skip, self.up(deep)], 1))))


class Reused(nn.Module):
    """One convolution called three times."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.again, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.enter(x))
        for _ in range(3):
            x = functional.relu(self.again(x))
        return self.head(x.mean((2, 3)))


def depthwise() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 1),
        nn.ReLU(),
        nn.Conv2d(6, 4, 3),
    )


TOPOLOGIES: dict[str, Callable[[], nn.Module]] = {
    "chain": chain,
    "chain with batch norm": chain_bn,
    "chain with ReLU in place": chain_inplace,
    "PReLU, one slope": lambda: prelu(1),
    "PReLU, a slope per channel": lambda: prelu(8),
    "residual": Residual,
    "concat": Concat,
    "sum onto a concat": OntoConcat,
    "transposed": Transposed,
    "reused": Reused,
    "depthwise": depthwise,
}


class Grouped(nn.Module):
    """A ResNeXt block: the grouped convolution between two pointwise ones, a shortcut around all three."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.enter, self.norm = nn.Conv2d(6, 8, 1, bias=False), nn.BatchNorm2d(8)
        self.group, self.leave = nn.Conv2d(8, 12, 3, padding=1, groups=2), nn.Conv2d(12, 6, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.stem(x))
        y = functional.relu(self.group(functional.relu(self.norm(self.enter(x)))))
        return self.head(functional.relu(x + self.leave(y)).mean((2, 3)))


def multiplied() -> nn.Module:
    """Depthwise convolutions that make two and three channels of each; the first one of the input's."""
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, groups=3),
        nn.ReLU(),
        nn.Conv2d(12, 5, 1),
        nn.ReLU(),
        nn.Conv2d(5, 15, 3, groups=5),
        nn.BatchNorm2d(15),
        nn.ReLU(),
        nn.Conv2d(15, 4, 1),
    )


class Excited(nn.Module):
    """Squeeze and excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.squeeze, self.excite = nn.Conv2d(3, 8, 3), nn.Linear(8, 3), nn.Linear(3, 8)
        self.last = nn.Conv2d(8, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.first(x))
        weights = torch.sigmoid(self.excite(functional.relu(self.squeeze(x.mean((2, 3))))))
        return self.last(x * weights[:, :, None, None])


class Gated(nn.Module):
    """An attention gate with a weight for every channel and pixel, and a spatial one with a weight for every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.skip, self.below = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 5, 3, padding=1)
        self.of_skip, self.of_below, self.weigh = nn.Conv2d(8, 4, 1), nn.Conv2d(5, 4, 1), nn.Conv2d(4, 8, 1)
        self.look, self.last = nn.Conv2d(8, 1, 3, padding=1), nn.Conv2d(13, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip, below = functional.silu(self.skip(x)), functional.relu(self.below(x))
        skip = skip * torch.sigmoid(self.weigh(functional.relu(self.of_skip(skip) + self.of_below(below))))
        skip = skip * torch.sigmoid(self.look(skip))
        return self.last(torch.cat([skip, below], 1))


class Recurrent(nn.Module):
    """A depthwise separable unit called three times on its input plus its last output; one norm for all calls."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.depth = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.point, self.norm, self.head = nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.enter(x)
        made = torch.zeros_like(x)
        for _ in range(3):
            made = functional.relu(self.norm(self.point(self.depth(x + made))))
        return self.head(made.mean((2, 3)))


def upsampling(kernel: int, padding: int, rest: int, groups: int = 1) -> nn.Module:
    """A transposed convolution of stride two whose blocks overlap."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 6, kernel, 2, padding, rest, groups=groups),
        nn.ReLU(),
        nn.Conv2d(6, 4, 3),
    )


class Halves(nn.Module):
    """One half of a layer's channels gates the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 12, 3), nn.Conv2d(6, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = self.first(x).chunk(2, 1)
        return self.last(left * torch.sigmoid(right))


class Pieces(nn.Module):
    """The block of a YOLO: one layer's channels in two halves, a residual unit on the second, all pieces side by side."""

    def __init__(self, cut: Callable[[torch.Tensor], Sequence[torch.Tensor]]) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8)
        self.one, self.two = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.join, self.last, self.cut = nn.Conv2d(12, 5, 1), nn.Conv2d(5, 4, 3), cut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = self.cut(functional.silu(self.norm(self.first(x))))
        more = right + functional.silu(self.two(functional.silu(self.one(right))))
        return self.last(functional.silu(self.join(torch.cat([left, right, more], 1))))


class Quarters(nn.Module):
    """Four pieces, each of which goes through a layer of its own on top of the piece before, in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.join, self.last = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 5, 1), nn.Conv2d(5, 4, 3)
        self.more = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made, *rest = functional.silu(self.first(x)).chunk(4, 1)
        pieces = [made]
        for layer, piece in zip(self.more, rest, strict=True):
            made = functional.silu(layer(piece + made))
            pieces.append(made)
        return self.last(functional.silu(self.join(torch.cat(pieces[::-1], 1))))


def half(x: torch.Tensor) -> Sequence[torch.Tensor]:
    """Two halves by slices."""
    return x[:, : x.shape[1] // 2], x[:, x.shape[1] // 2 :]


class Padded(nn.Module):
    """A shortcut that gains channels by zeros before and after its own (option A of ResNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 9, 3, stride=2, padding=1)
        self.last = nn.Conv2d(9, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.first(x))
        return self.last(functional.relu(self.second(x) + functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))))


class Between(nn.Module):
    """first -> something that channels cannot be followed through -> second -> last."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.first, self.between = nn.Conv2d(3, 8, 3), between
        self.second, self.last = nn.Conv2d(8, 6, 3), nn.Conv2d(6, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(functional.relu(self.second(functional.relu(self.between(self.first(x))))))


INTRICATE: dict[str, Callable[[], nn.Module]] = {
    "grouped": Grouped,
    "depthwise, several each": multiplied,
    "squeeze and excitation": Excited,
    "attention gate": Gated,
    "recurrent": Recurrent,
    "transposed, k3 s2": lambda: upsampling(3, 1, 1),
    "transposed, k4 s2": lambda: upsampling(4, 1, 0),
    "transposed, grouped": lambda: upsampling(3, 1, 1, groups=2),
    "pixel shuffle": lambda: nn.Sequential(nn.Conv2d(3, 16, 3), nn.PixelShuffle(2), nn.ReLU(), nn.Conv2d(4, 4, 3)),
    "halves": Halves,
    "pieces by chunk": lambda: Pieces(lambda x: x.chunk(2, 1)),
    "pieces by slices": lambda: Pieces(half),
    "pieces by a view": lambda: Pieces(lambda x: x.view(len(x), 2, -1, *x.shape[2:]).unbind(1)),
    "four pieces": Quarters,
    "padded shortcut": Padded,
    "group norm": lambda: Between(nn.GroupNorm(2, 8)),
    "layer norm": lambda: Between(nn.LayerNorm([8, 6, 6])),
    "instance norm": lambda: Between(nn.InstanceNorm2d(8, affine=True)),
}
"""Where channels hang together in more than the usual ways."""
