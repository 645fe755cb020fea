"""CANet in plain PyTorch, with the names of the layers of the released code, and an attention over supports."""

import torch
from torch import nn
from torch.nn import functional

from tests.backbones.torch_resnet import Block, randomise


def convolution(channels, filters, size, dilation=1):
    return nn.Conv2d(channels, filters, size, 1, dilation * (size // 2), dilation)


def block(*args, **kwargs):
    return nn.Sequential(convolution(*args, **kwargs), nn.ReLU())


def residual(channels, filters):
    return nn.Sequential(
        nn.ReLU(), convolution(channels, filters, 3), nn.ReLU(), convolution(filters, filters, 3)
    )


class TorchCANet(nn.Module):
    """As in evaluation: without dropout.

    Args:
      stride_on: which convolution of a bottleneck strides, '1x1' as the released code has it, or '3x3'.
      attention: weigh supports by it; else their masked averages are averaged.
    """

    def __init__(self, width=64, features=256, stride_on='1x1', attention=False):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = self._stage(width, width, 3, 1, 1)
        self.layer2 = self._stage(4 * width, 2 * width, 4, 2, 1)
        self.layer3 = self._stage(8 * width, 4 * width, 6, 1, 2)
        if stride_on == '1x1':
            self.layer2[0].conv1.stride, self.layer2[0].conv2.stride = (2, 2), (1, 1)
        self.layer5 = block(24 * width, features, 3, dilation=2)
        self.layer55 = block(2 * features, features, 3, dilation=2)
        self.residule1 = residual(features + 2, features)
        self.residule2 = residual(features, features)
        self.residule3 = residual(features, features)
        self.layer6_0 = block(features, features, 1)
        self.layer6_1 = block(features, features, 1)
        self.layer6_2 = block(features, features, 3, dilation=6)
        self.layer6_3 = block(features, features, 3, dilation=12)
        self.layer6_4 = block(features, features, 3, dilation=18)
        self.layer7 = block(5 * features, features, 1)
        self.layer9 = nn.Conv2d(features, 2, 1)
        if attention:
            self.attention1, self.attention2 = (
                block(features, features, 3),
                block(features, features, 3),
            )
            self.attention3 = nn.Linear(features, 1)

    def _stage(self, channels, filters, blocks, stride, dilation):
        first = Block(channels, filters, stride, dilation)
        return nn.Sequential(
            first, *(Block(4 * filters, filters, 1, dilation) for _ in range(blocks - 1))
        )

    def encode(self, x):
        x = functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1, ceil_mode=True)
        second = self.layer2(self.layer1(x))
        return self.layer5(torch.cat([second, self.layer3(second)], 1))

    def average(self, support, mask):
        features = self.encode(support)
        mask = functional.interpolate(mask, features.shape[2:], mode='bilinear', align_corners=True)
        return (features * mask).sum((2, 3)) / (mask.sum((2, 3)) + 0.0005)

    def compare(self, features, vector):
        tiled = vector[:, :, None, None].expand(-1, -1, *features.shape[2:])
        return self.layer55(torch.cat([features, tiled], 1))

    def importance(self, x):
        x = self.attention2(functional.max_pool2d(self.attention1(x), 3, 2, 1))
        return self.attention3(x.mean((2, 3)))

    def fuse(self, features, vectors):
        """The comparison with one or several supports."""
        if not hasattr(self, 'attention1'):
            return self.compare(features, torch.stack(vectors).mean(0))
        compared = [self.compare(features, vector) for vector in vectors]
        weights = torch.softmax(torch.cat([self.importance(x) for x in compared], 1), 1)
        return sum(weights[:, k, None, None, None] * x for k, x in enumerate(compared))

    def forward(self, query, supports, masks, history=None):
        """Logits [B, 2, h, w]. supports: list of [B, 3, H, W]; masks: list of [B, 1, H, W]; history [B, 2, h, w]."""
        features = self.encode(query)
        x = self.fuse(features, [self.average(*pair) for pair in zip(supports, masks, strict=True)])
        history = torch.zeros(len(x), 2, *x.shape[2:]) if history is None else history
        x = x + self.residule1(torch.cat([x, history], 1))
        x = x + self.residule2(x)
        x = x + self.residule3(x)
        pooled = self.layer6_0(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        branches = [pooled, self.layer6_1(x), self.layer6_2(x), self.layer6_3(x), self.layer6_4(x)]
        return self.layer9(self.layer7(torch.cat(branches, 1)))

    def iterate(self, query, supports, masks, history=None, steps=4):
        logits = self(query, supports, masks, history)
        for _ in range(steps):
            logits = self(query, supports, masks, torch.softmax(logits, 1))
        return logits


def random_canet(seed, **fields):
    """Weights large enough that every part is seen in the logits, and that these are neither tiny nor huge."""
    torch.manual_seed(seed)
    model = randomise(TorchCANet(**fields), seed).eval()
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
            nn.init.normal_(module.bias, 0, 0.3)
    with torch.no_grad():
        model.layer5[0].weight *= 0.3
        model.residule1[1].weight[:, -2:] *= 10  # the two channels of the history, among many
    return model
