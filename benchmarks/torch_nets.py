"""Nets of benchmarks/meta_step.py in PyTorch. Needs PyTorch alone."""

from torch import nn
from torch.nn import functional as F

NUM_CLASSES, NUM_FAMILIES = 10, 3


def build(name: str) -> nn.Module:
    """The net that cmwjax.models or `meta_step.NETS` has under this name.

    It takes images `[B, *image_shape(name)]`. Layers with parameters are called in the
    order of the Flax modules, by which benchmarks/peers.py carries weights over.

    Raises:
      ValueError: unknown name.
    """
    if name not in NETS:
        raise ValueError(f"model={name!r} is unknown; choose one of {sorted(NETS)}.")
    return NETS[name]()


def image_shape(name: str) -> tuple[int, int, int]:
    """Channels, height and width of the images that a net takes."""
    return (1, 28, 28) if name in ("small_conv", "mlp") else (3, 32, 32)


def build_gate() -> nn.Module:
    """The weighting net V up to its sigmoid: losses `[B, 1]` -> `[B, families]`."""
    return nn.Sequential(nn.Linear(1, 100), nn.ReLU(), nn.Linear(100, NUM_FAMILIES))


class Conv(nn.Conv2d):
    """Computes in the type of its input; parameters stay float32."""

    def forward(self, x):
        kernel = self.weight.to(x.dtype)
        return F.conv2d(x, kernel, None, self.stride, self.padding)


class Norm(nn.BatchNorm2d):
    """In training, without running statistics: those are work left out."""

    def __init__(self, channels):
        super().__init__(channels, track_running_stats=False)

    def forward(self, x):
        return F.batch_norm(x, None, None, self.weight, self.bias, training=True)


def conv(inputs, outputs, stride=1, size=3):
    return Conv(inputs, outputs, size, stride, size // 2, bias=False)


class PreActBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.norms = nn.ModuleList([Norm(inputs), Norm(outputs)])
        self.convs = nn.ModuleList(
            [conv(inputs, outputs, stride), conv(outputs, outputs)]
        )
        self.project = None
        if stride > 1 or inputs != outputs:
            self.project = conv(inputs, outputs, stride, size=1)

    def forward(self, x):
        y = F.relu(self.norms[0](x))
        x = x if self.project is None else self.project(y)
        y = F.relu(self.norms[1](self.convs[0](y)))
        return x + self.convs[1](y)


class ThinBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.norms = nn.ModuleList([Norm(outputs), Norm(outputs)])
        self.convs = nn.ModuleList(
            [conv(inputs, outputs, stride), conv(outputs, outputs)]
        )
        self.stride, self.pad = stride, (outputs - inputs) // 2

    def forward(self, x):
        y = F.relu(self.norms[0](self.convs[0](x)))
        y = self.norms[1](self.convs[1](y))
        x = x[:, :, :: self.stride, :: self.stride]
        return F.relu(y + F.pad(x, (0, 0, 0, 0, self.pad, self.pad)))


class ResNet(nn.Module):
    """A stem, stages of blocks `(channels, blocks)`, a mean, and a linear head."""

    def __init__(self, block, stem, stages, *, norm_at="stem"):
        super().__init__()
        layers = [conv(3, stem)]
        if norm_at == "stem":
            layers += [Norm(stem), nn.ReLU()]
        inputs = stem
        for stage, (outputs, blocks) in enumerate(stages):
            for i in range(blocks):
                stride = 2 if stage and not i else 1
                layers.append(block(inputs, outputs, stride))
                inputs = outputs
        if norm_at == "end":
            layers += [Norm(inputs), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(inputs, NUM_CLASSES)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)).to(self.head.weight.dtype))


def thin_resnet(blocks):
    return ResNet(ThinBlock, 16, [(16, blocks), (32, blocks), (64, blocks)])


def wide_resnet(blocks, width):
    stages = [(channels * width, blocks) for channels in (16, 32, 64)]
    return ResNet(PreActBlock, 16, stages, norm_at="end")


def preact_resnet18():
    return ResNet(PreActBlock, 64, [(64, 2), (128, 2), (256, 2), (512, 2)])


def small_conv():
    layers, inputs = [], 1
    for outputs in (16, 32, 64):
        layers += [conv(inputs, outputs, stride=2), Norm(outputs), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * inputs, NUM_CLASSES))


def mlp():
    sizes = 784, 128, 128
    layers = [nn.Flatten()]
    for inputs, outputs in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], NUM_CLASSES))


NETS = {
    "preact_resnet18": preact_resnet18,
    "resnet32": lambda: thin_resnet(5),
    "resnet8": lambda: thin_resnet(1),
    "wrn16_2": lambda: wide_resnet(2, 2),
    "small_conv": small_conv,
    "mlp": mlp,
}
