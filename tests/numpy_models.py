"""The models once more, in numpy, float64 and a training batch's statistics."""

import math

import numpy as np


class Numpy:
    """The layers of a model, taking its parameters by name or in order of use."""

    def __init__(self, params, scope=()):
        self.params, self.scope, self.used = params, scope, {}

    def take(self, kind, name=None):
        if name is None:
            index = self.used.get((self.scope, kind), 0)
            self.used[self.scope, kind] = index + 1
            name = f"{kind}_{index}"
        path = (*self.scope, *name.split("/"))
        return {k[-1]: v for k, v in self.params.items() if k[:-1] == path}

    def conv(self, x, strides=1, padding=1, name=None):
        p = self.take("Conv", name)
        kernel = p["kernel"]
        high, wide = np.broadcast_to(padding, 2)
        x = np.pad(x, ((0, 0), (high, high), (wide, wide), (0, 0)))
        x = windows(x, kernel.shape[:2], strides)
        x = np.tensordot(x, kernel, axes=((4, 5, 3), (0, 1, 2)))
        return x + p.get("bias", 0)

    def norm(self, x, name=None, epsilon=1e-5):
        p = self.take("BatchNorm", name)
        x = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + epsilon)
        return x * p["scale"] + p["bias"]

    def head(self, x):
        return x @ self.params["head", "kernel"] + self.params["head", "bias"]

    def preact(self, x, features):
        """One pre-activation block per stage, each stage of half the size."""
        for i, c in enumerate(features):
            self.scope, s = (f"PreActBlock_{i}",), 2 if i else 1
            y = relu(self.norm(x))
            if s == 2 or x.shape[-1] != c:
                x = self.conv(y, s, padding=0)
            x = x + self.conv(relu(self.norm(self.conv(y, s))))
        self.scope = ()
        return x

    def bottleneck(self, x, stage):
        """The first block of a stage of ResNet-50, which projects."""
        self.scope, s = (f"layer{stage}_0",), 1 if stage == 1 else 2
        y = relu(self.norm(self.conv(x, 1, 0, "conv1"), "bn1"))
        y = relu(self.norm(self.conv(y, s, 1, "conv2"), "bn2"))
        y = self.norm(self.conv(y, 1, 0, "conv3"), "bn3")
        x = self.norm(self.conv(x, s, 0, "downsample_0"), "downsample_1")
        self.scope = ()
        return relu(x + y)

    def unit(self, x, name, strides=1, padding=0):
        """Convolution, norm and ReLU of Inception-ResNet."""
        x = self.conv(x, strides, padding, f"{name}/conv")
        return relu(self.norm(x, f"{name}/bn", epsilon=1e-3))

    def block(self, x, name, scale, across, linear=False):
        """Residual block; `across` are the paddings of the longer chain's kernels."""
        y = [self.unit(x, f"{name}/branch0")]
        z = self.unit(x, f"{name}/branch1_0")
        for i, padding in enumerate(across, start=1):
            z = self.unit(z, f"{name}/branch1_{i}", 1, padding)
        y.append(z)
        if any(k[:2] == (name, "branch2_0") for k in self.params):
            z = self.unit(x, f"{name}/branch2_0")
            z = self.unit(z, f"{name}/branch2_1", 1, 1)
            y.append(self.unit(z, f"{name}/branch2_2", 1, 1))
        y = self.conv(np.concatenate(y, -1), 1, 0, f"{name}/conv2d")
        return x + scale * y if linear else relu(x + scale * y)

    def inception_resnet(self, x):
        """With one block of each size, and the last one; the features."""
        x = self.unit(x, "conv2d_1a", 2)
        x = self.unit(x, "conv2d_2a")
        x = max_pool(self.unit(x, "conv2d_2b", 1, 1))
        x = self.unit(x, "conv2d_3b")
        x = max_pool(self.unit(x, "conv2d_4a"))
        y = [self.unit(x, "mixed_5b/branch0")]
        z = self.unit(x, "mixed_5b/branch1_0")
        y.append(self.unit(z, "mixed_5b/branch1_1", 1, 2))
        z = self.unit(x, "mixed_5b/branch2_0")
        z = self.unit(z, "mixed_5b/branch2_1", 1, 1)
        y.append(self.unit(z, "mixed_5b/branch2_2", 1, 1))
        y.append(self.unit(average_of_neighbours(x), "mixed_5b/branch3_1"))
        x = self.block(np.concatenate(y, -1), "repeat_0", 0.17, [1])
        y = [self.unit(x, "mixed_6a/branch0", 2)]
        z = self.unit(x, "mixed_6a/branch1_0")
        z = self.unit(z, "mixed_6a/branch1_1", 1, 1)
        y += [self.unit(z, "mixed_6a/branch1_2", 2), max_pool(x)]
        x = self.block(np.concatenate(y, -1), "repeat_1_0", 0.1, [(0, 3), (3, 0)])
        y = []
        for i in range(2):
            z = self.unit(x, f"mixed_7a/branch{i}_0")
            y.append(self.unit(z, f"mixed_7a/branch{i}_1", 2))
        z = self.unit(x, "mixed_7a/branch2_0")
        z = self.unit(z, "mixed_7a/branch2_1", 1, 1)
        y += [self.unit(z, "mixed_7a/branch2_2", 2), max_pool(x)]
        x = self.block(np.concatenate(y, -1), "repeat_2_0", 0.2, [(0, 1), (1, 0)])
        x = self.block(x, "block8", 1, [(0, 1), (1, 0)], linear=True)
        return self.unit(x, "conv2d_7b")

    def vgg(self, x, stage_sizes):
        """Seven by seven averages of its features, channels first, in one row."""
        place = 0
        for convolutions in stage_sizes:
            for _ in range(convolutions):
                x = self.conv(x, name=f"features_{place}")
                x = relu(self.norm(x, f"features_{place + 1}"))
                place += 3
            x = windows(x, (2, 2), 2).max((4, 5))
            place += 1
        pooled = np.empty((len(x), x.shape[-1], 7, 7))
        for i, j in np.ndindex(7, 7):
            (top, bottom), (left, right) = (
                (math.floor(k * n / 7), math.ceil((k + 1) * n / 7))
                for k, n in zip((i, j), x.shape[1:3], strict=True)
            )
            pooled[:, :, i, j] = x[:, top:bottom, left:right].mean((1, 2))
        return pooled.reshape(len(x), -1)

    def linear(self, x, name):
        p = self.take("Dense", name)
        return x @ p["kernel"] + p["bias"]

    def depthwise(self, x, strides, name):
        kernel = self.take("Depthwise", name)["kernel"]
        x = windows(same(x, len(kernel), strides), kernel.shape[:2], strides)
        return np.einsum("bhwcij,ijc->bhwc", x, kernel[:, :, 0])

    def efficientnet(self, x, stages):
        """Its features; every stage has one block or two."""
        x = self.conv(same(x, 3, 2), 2, 0, "_conv_stem")
        x, number = relu6(self.norm(x, "_bn0", 1e-3)), 0
        for blocks, _, strides, expansion, _ in stages:
            for i in range(blocks):
                self.scope, y = (f"_blocks_{number}",), x
                if expansion > 1:
                    y = self.conv(y, 1, 0, "_expand_conv")
                    y = relu6(self.norm(y, "_bn0", 1e-3))
                y = self.depthwise(y, 1 if i else strides, "_depthwise_conv")
                y = relu6(self.norm(y, "_bn1", 1e-3))
                y = self.norm(self.conv(y, 1, 0, "_project_conv"), "_bn2", 1e-3)
                x, number = x + y if i else y, number + 1
        self.scope = ()
        return relu6(self.norm(self.conv(x, 1, 0, "_conv_head"), "_bn1", 1e-3))


def relu6(x):
    return np.clip(x, 0, 6)


def same(x, kernel, strides):
    """Padded as TensorFlow does: more behind than before."""
    room = [max((-(-n // strides) - 1) * strides + kernel - n, 0) for n in x.shape[1:3]]
    pads = [(free // 2, free - free // 2) for free in room]
    return np.pad(x, ((0, 0), *pads, (0, 0)))


def relu(x):
    return np.maximum(x, 0)


def windows(x, size, strides):
    """`[B, H, W, c]` -> `[B, H', W', c, *size]`."""
    x = np.lib.stride_tricks.sliding_window_view(x, size, axis=(1, 2))
    return x[:, ::strides, ::strides]


def max_pool(x, padding=0):
    pad = (padding, padding)
    x = np.pad(x, ((0, 0), pad, pad, (0, 0)), constant_values=-np.inf)
    return windows(x, (3, 3), 2).max((4, 5))


def average_of_neighbours(x):
    """Mean of the up to nine values that there are around each, itself included."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=np.nan)
    return np.nanmean(windows(padded, (3, 3), 1), (4, 5))


def reference(name, net, x):
    """Logits of the model of that name in its tiny form."""
    if name == "mlp":
        hidden = net.take("Dense")
        return net.head(relu(x.reshape(len(x), -1) @ hidden["kernel"] + hidden["bias"]))
    if name == "small_conv":
        for _ in range(2):
            x = relu(net.norm(net.conv(x, 2)))
        return net.head(x.reshape(len(x), -1))
    if name == "wide_resnet":
        return net.head(
            relu(net.norm(net.preact(net.conv(x), (16, 32, 64)))).mean((1, 2))
        )
    if name == "resnet50":
        x = max_pool(relu(net.norm(net.conv(x, 2, 3, "conv1"), "bn1")), padding=1)
        return net.head(net.bottleneck(net.bottleneck(x, 1), 2).mean((1, 2)))
    if name == "vgg19_bn":
        x = relu(net.linear(net.vgg(x, (1, 2)), "classifier_0"))
        return net.head(relu(net.linear(x, "classifier_3")))
    if name == "bcnn_vgg16":
        x = windows(relu(net.conv(x, name="features_0")), (2, 2), 2).max((4, 5))
        x = relu(net.conv(relu(net.conv(x, name="features_3")), name="features_5"))
        x = x.reshape(len(x), -1, x.shape[-1])
        pairs = np.sqrt(np.mean(x[..., :, None] * x[..., None, :], axis=1) + 1e-5)
        pairs = pairs.reshape(len(x), -1)
        return net.head(pairs / np.sqrt(np.sum(pairs**2, axis=1, keepdims=True)))
    if name == "efficientnet_lite0":
        stages = ((1, 3, 1, 1, 4), (2, 5, 2, 3, 6))
        return net.head(net.efficientnet(x, stages).mean((1, 2)))
    if name == "inception_resnet_v2":
        return net.head(net.inception_resnet(x).mean((1, 2)))
    x = relu(net.norm(net.conv(x, padding=0 if name == "resnet34" else 1)))
    if name == "preact_resnet18":
        return net.head(net.preact(x, (4, 8)).mean((1, 2)))
    if name == "resnet32":
        for c in (16, 32, 64):
            s = c // x.shape[-1]
            y = net.norm(net.conv(relu(net.norm(net.conv(x, s)))))
            padded = np.zeros_like(y)
            padded[..., (c - c // s) // 2 : (c + c // s) // 2] = x[:, ::s, ::s]
            x = relu(padded + y)
    if name == "resnet34":
        for i in range(2):
            net.scope, s = (f"BasicBlock_{i}",), 2 if i else 1
            y = net.norm(net.conv(relu(net.norm(net.conv(x, s)))))
            x = relu(y + (net.norm(net.conv(x, s, padding=0)) if i else x))
        net.scope = ()
    return net.head(x.mean((1, 2)))
