"""ResNet-50 to layer3 in plain PyTorch with torchvision's names, stride on the 3x3, layer3 dilated by 2."""

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, channels, filters, stride, dilation):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.conv3 = nn.Conv2d(filters, 4 * filters, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * filters)
        self.downsample = None
        if channels != 4 * filters:
            convolution = nn.Conv2d(channels, 4 * filters, 1, stride, bias=False)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(4 * filters))

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class TorchResNet(nn.Module):
    def __init__(self, width=64, depths=(3, 4, 6), deep_stem=False):
        super().__init__()
        self.deep_stem = deep_stem
        if deep_stem:
            self.conv1 = nn.Conv2d(3, width, 3, 2, 1, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(width)
            self.conv3 = nn.Conv2d(width, 2 * width, 3, 1, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(2 * width)
        else:
            self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = self._stage((1 + deep_stem) * width, width, depths[0], 1, 1)
        self.layer2 = self._stage(4 * width, 2 * width, depths[1], 2, 1)
        self.layer3 = self._stage(8 * width, 4 * width, depths[2], 1, 2)

    def _stage(self, channels, filters, blocks, stride, dilation):
        first = Block(channels, filters, stride, dilation)
        return nn.Sequential(
            first, *(Block(4 * filters, filters, 1, dilation) for _ in range(blocks - 1))
        )

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        if self.deep_stem:
            x = torch.relu(self.bn2(self.conv2(x)))
            x = torch.relu(self.bn3(self.conv3(x)))
        x = nn.functional.max_pool2d(x, 3, 2, 1)
        features = {}
        for name in ('layer1', 'layer2', 'layer3'):
            features[name] = x = getattr(self, name)(x)
        return features


def randomise(model, seed):
    """Random batch norm scales, offsets and statistics on top of PyTorch's random kernels."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.2, 1, generator=generator)
            nn.init.normal_(module.bias, 0, 0.3, generator=generator)
            nn.init.normal_(module.running_mean, 0, 0.3, generator=generator)
            nn.init.uniform_(module.running_var, 0.2, 1, generator=generator)
    return model
