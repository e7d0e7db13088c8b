"""The classifiers by name: the one list of them."""

import dataclasses

from flax import linen as nn

from cmwjax.models.bilinear import BilinearCNN
from cmwjax.models.efficientnet_lite import EfficientNetLite0
from cmwjax.models.inception_resnet import InceptionResNetV2
from cmwjax.models.mlp import MLP
from cmwjax.models.preact_resnet import PreActResNet
from cmwjax.models.resnet import ResNet
from cmwjax.models.resnet_cifar import ResNetCifar
from cmwjax.models.resnet_imagenet import ResNetImageNet
from cmwjax.models.small_conv import SmallConv
from cmwjax.models.text import TextMean
from cmwjax.models.vgg import VGG
from cmwjax.models.wide_resnet import WideResNet

MODELS = {
    "mlp": MLP,
    "small_conv": SmallConv,
    "resnet32": ResNetCifar,
    "preact_resnet18": PreActResNet,
    "resnet34": ResNet,
    "wide_resnet": WideResNet,
    "efficientnet_lite0": EfficientNetLite0,
    "resnet50": ResNetImageNet,
    "vgg19_bn": VGG,
    "bcnn_vgg16": BilinearCNN,
    "inception_resnet_v2": InceptionResNetV2,
    "text": TextMean,
}


def build(
    name: str,
    *,
    num_classes: int,
    axis_name: str | None = None,
    vocabulary_size: int = 0,
    **options,
) -> nn.Module:
    """Builds a classifier.

    Args:
      name: a key of `MODELS`.
      num_classes: C, the number of outputs.
      axis_name: mapped axis over which batch statistics are averaged.
      vocabulary_size: number of tokens, for models of texts.
      **options: further attributes of the model's class, e.g. `dtype='bfloat16'`.

    Returns:
      A module from inputs, for most of them images `[B, H, W, channels]`, to outputs
      `[B, C]`.

    Raises:
      ValueError: unknown name or option.
    """
    if name not in MODELS:
        raise ValueError(f"model={name!r} is unknown; choose one of {sorted(MODELS)}.")
    model = MODELS[name]
    fields = {field.name for field in dataclasses.fields(model)} - {"parent", "name"}
    unknown = sorted(set(options) - fields)
    if unknown:
        choices = sorted(fields - {"num_classes", "axis_name", "vocabulary_size"})
        raise ValueError(f"{name} has no option {unknown}; choose among {choices}.")
    if "axis_name" in fields:  # the others have no batch statistics
        options["axis_name"] = axis_name
    if "vocabulary_size" in fields:
        options["vocabulary_size"] = vocabulary_size
    return model(num_classes=num_classes, **options)
