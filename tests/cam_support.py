"""What the tests of class activation maps share."""

from collections import OrderedDict

from torch import nn

TOLERANCE = 1e-4


def unit(values):
    return (values - values.min()) / (values.max() - values.min())


def tiny(weight, bias=0.0, convolution=1.0):
    """Return a network of one channel: a 1x1 convolution, ReLU, average pooling, and one weight for the class."""
    layers = OrderedDict(
        features=nn.Conv2d(1, 1, 1),
        relu=nn.ReLU(),
        pool=nn.AdaptiveAvgPool2d(1),
        flat=nn.Flatten(),
        head=nn.Linear(1, 2),
    )
    model = nn.Sequential(layers).requires_grad_(False).eval()
    model.features.weight.fill_(convolution)
    model.features.bias.zero_()
    model.head.weight.fill_(weight)
    model.head.bias.fill_(bias)
    return model
