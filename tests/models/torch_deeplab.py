"""DeepLab v3+ in plain PyTorch with torchvision's names in its encoder, output stride 16, group norm in its head."""

import torch
from torch import nn
from torch.nn.functional import interpolate, max_pool2d

from tests.backbones.torch_resnet import Block


class ConvNormRelu(nn.Sequential):
    def __init__(self, channels, features, kernel, dilation=1):
        super().__init__(
            nn.Conv2d(channels, features, kernel, 1, dilation * (kernel // 2), dilation),
            nn.GroupNorm(features // 16, features),
            nn.ReLU(),
        )


class TorchDeepLab(nn.Module):
    def __init__(self, width, features):
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.encoder.bn1 = nn.BatchNorm2d(width)
        self.encoder.layer1 = self._stage(width, width, 3, 1, 1)
        self.encoder.layer2 = self._stage(4 * width, 2 * width, 4, 2, 1)
        self.encoder.layer3 = self._stage(8 * width, 4 * width, 6, 2, 1)
        self.encoder.layer4 = self._stage(16 * width, 8 * width, 3, 1, 2)
        deep = 32 * width
        self.conv1x1 = ConvNormRelu(deep, features, 1)
        self.rate6, self.rate12, self.rate18 = (
            ConvNormRelu(deep, features, 3, rate) for rate in (6, 12, 18)
        )
        self.image_pooling = ConvNormRelu(deep, features, 1)
        self.fuse = ConvNormRelu(5 * features, features, 1)
        self.low_level = ConvNormRelu(4 * width, 48, 1)
        self.decoder1 = ConvNormRelu(features + 48, features, 3)
        self.decoder2 = ConvNormRelu(features, features, 3)
        self.classify = nn.Conv2d(features, 21, 1)

    def _stage(self, channels, filters, blocks, stride, dilation):
        first = Block(channels, filters, stride, dilation)
        return nn.Sequential(
            first, *(Block(4 * filters, filters, 1, dilation) for _ in range(blocks - 1))
        )

    def forward(self, x):
        encoder = self.encoder
        x = max_pool2d(torch.relu(encoder.bn1(encoder.conv1(x))), 3, 2, 1)
        low = encoder.layer1(x)
        x = encoder.layer4(encoder.layer3(encoder.layer2(low)))
        pooled = self.image_pooling(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        branches = [self.conv1x1(x), self.rate6(x), self.rate12(x), self.rate18(x), pooled]
        x = self.fuse(torch.cat(branches, 1))
        x = interpolate(x, low.shape[2:], mode='bilinear', align_corners=True)
        x = torch.cat([x, self.low_level(low)], 1)
        return self.classify(self.decoder2(self.decoder1(x)))
