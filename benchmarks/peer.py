"""SimPropNet and CANet in plain PyTorch: what the benchmarks measure this project against.

Written as released code of the field is (CANet's one_shot_network.py): a ResNet-50 with frozen batch norms, features
and tiled prototypes concatenated before each convolution, the query and the supports one after the other. Weights are
copied from this project's parameters, see `state_dict`; the outputs are then the same. Never imported by the package.
"""

import math
import re
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import AbstractContextManager

import numpy as np
import torch
from flax import traverse_util
from torch import nn
from torch.nn import functional

from benchmarks import measure
from simpropnet_jax.backbones.normalise import get_convention

MASK_AREA_EPSILON = 5e-4


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions, each with a batch norm, and a shortcut."""

    def __init__(self, channels, filters, stride, dilation, stride_on, project):
        super().__init__()
        first, second = (stride, 1) if stride_on == '1x1' else (1, stride)
        self.conv1 = nn.Conv2d(channels, filters, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, second, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.conv3 = nn.Conv2d(filters, 4 * filters, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * filters)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if project:
            shortcut = nn.Conv2d(channels, 4 * filters, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(4 * filters))

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """ResNet-50 to layer3, which is dilated by 2 in place of its stride; returns layer2 and layer3, concatenated."""

    def __init__(self, width, stride_on):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = self._stage(width, width, 3, 1, 1, stride_on)
        self.layer2 = self._stage(4 * width, 2 * width, 4, 2, 1, stride_on)
        self.layer3 = self._stage(8 * width, 4 * width, 6, 1, 2, stride_on)

    def _stage(self, channels, filters, blocks, stride, dilation, stride_on):
        first = Bottleneck(channels, filters, stride, dilation, stride_on, project=True)
        others = (
            Bottleneck(4 * filters, filters, 1, dilation, stride_on, project=False)
            for _ in range(blocks - 1)
        )
        return nn.Sequential(first, *others)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        second = self.layer2(self.layer1(x))
        return torch.cat([second, self.layer3(second)], 1)


def convolution(channels, filters, kernel=3, dilation=1):
    return nn.Conv2d(channels, filters, kernel, padding=dilation * (kernel // 2), dilation=dilation)


class Block(nn.Sequential):
    """Convolution, ReLU, dropout of whole channels."""

    def __init__(self, channels, filters, dropout, kernel=3, dilation=1):
        conv = convolution(channels, filters, kernel, dilation)
        super().__init__(
            OrderedDict(conv=conv, relu=nn.ReLU(inplace=True), dropout=nn.Dropout2d(dropout))
        )


def tile(vector, features):
    return vector[:, :, None, None].expand(-1, -1, *features.shape[2:]).to(features.dtype)


class AttentiveFusion(nn.Module):
    """SimPropNet, Eq. 2 and 3: attention maps, and three convolutions with instance norms."""

    def __init__(self, features, activation, gain):
        super().__init__()
        self.activation, self.gain = activation, gain
        self.conv1 = convolution(2 * features, 2 * features)
        self.conv2 = convolution(2 * features + 2, 2 * features)
        self.conv3 = convolution(2 * features, 2 * features)

    def residual(self, convolved, g):
        inner = torch.relu(convolved) if self.activation == 'block' else convolved
        x = functional.instance_norm(inner + g)
        return torch.relu(x) if self.activation == 'relu' else x

    def attention(self, features, foreground, background):
        wide = features.float()
        similar = [
            (1 + functional.cosine_similarity(wide, tile(z, wide))) / 2
            for z in (foreground, background)
        ]
        maps = torch.stack(similar, 1)
        maps = maps / maps.sum(1, keepdim=True).clamp(min=1e-6)
        return (0.5 + self.gain * (maps - 0.5)).to(features.dtype)

    def forward(self, features, foreground, background, history=None):
        g = torch.cat([features, tile(foreground, features)], 1)
        attention = self.attention(features, foreground, background)
        g = self.residual(self.conv1(g), g)
        g = self.residual(self.conv2(torch.cat([g, attention], 1)), g)
        return self.residual(self.conv3(g), g)


class DenseComparison(nn.Module):
    """CANet: a convolution over features and prototype, then residual blocks that also see the earlier prediction."""

    def __init__(self, features, dropout):
        super().__init__()
        self.comparison = Block(2 * features, features, dropout, dilation=2)
        self.residual1_conv1 = convolution(features + 2, features)
        self.residual1_conv2 = convolution(features, features)
        self.residual2_conv1 = convolution(features, features)
        self.residual2_conv2 = convolution(features, features)
        self.residual3_conv1 = convolution(features, features)
        self.residual3_conv2 = convolution(features, features)

    def forward(self, features, foreground, background, history=None):
        x = self.comparison(torch.cat([features, tile(foreground, features)], 1))
        if history is None:
            history = x.new_zeros(len(x), 2, *x.shape[2:])
        y = self.residual1_conv1(torch.relu(torch.cat([x, history], 1)))
        x = x + self.residual1_conv2(torch.relu(y))
        x = x + self.residual2_conv2(torch.relu(self.residual2_conv1(torch.relu(x))))
        return x + self.residual3_conv2(torch.relu(self.residual3_conv1(torch.relu(x))))


class Decoder(nn.Module):
    """Atrous spatial pyramid pooling, a 1x1 convolution, and one to background and foreground."""

    def __init__(self, channels, features, dropout):
        super().__init__()
        self.image_pooling = Block(channels, features, dropout, 1)
        self.conv1x1 = Block(channels, features, dropout, 1)
        self.rate6 = Block(channels, features, dropout, dilation=6)
        self.rate12 = Block(channels, features, dropout, dilation=12)
        self.rate18 = Block(channels, features, dropout, dilation=18)
        self.fuse = Block(5 * features, features, dropout, 1)
        self.logits = nn.Conv2d(features, 2, 1)

    def forward(self, x):
        pooled = self.image_pooling(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        branches = [pooled, self.conv1x1(x), self.rate6(x), self.rate12(x), self.rate18(x)]
        return self.logits(self.fuse(torch.cat(branches, 1)))


class FewShot(nn.Module):
    """Either method, for inputs as they are in the benchmarks: images u8 [N,H,W,3], masks and validity f32 [B,K,H,W].

    Args:
      model: `config.model`, its convention resolved.
      fusion: of features and prototypes; channels: what it gives to the decoder.
      refinements: passes after the first one in evaluation; 0 for SimPropNet.
    """

    def __init__(self, model, fusion, channels, refinements=0):
        super().__init__()
        how = get_convention(model.convention)
        self.order, self.scale, self.refinements = how.channels, how.scale, refinements
        self.memory_format = torch.contiguous_format
        self.register_buffer('mean', torch.tensor(how.mean)[:, None, None], persistent=False)
        self.register_buffer('std', torch.tensor(how.std)[:, None, None], persistent=False)
        self.backbone = ResNet(model.width, how.stride_on).requires_grad_(False)
        self.project = Block(24 * model.width, model.features, model.dropout, dilation=2)
        self.fusion = fusion
        self.decoder = Decoder(channels, model.features, model.dropout)

    def train(self, mode=True):
        """The backbone is frozen, its batch norms too."""
        super().train(mode)
        self.backbone.eval()
        return self

    def encode(self, images):
        """Features [N,C,h,w] of images u8 [N,H,W,3]."""
        x = images.permute(0, 3, 1, 2).float().contiguous(memory_format=self.memory_format)
        x = x.flip(1) if self.order == 'BGR' else x
        return self.project(self.backbone((x * self.scale - self.mean) / self.std))

    def probe(self, features, masks, valid):
        """Foreground and background averages [B,C] of support features [B,K,C,h,w], the mean over supports."""

        def average(weights):
            weights = functional.interpolate(
                weights, features.shape[3:], mode='bilinear', align_corners=True
            )
            total = (features.float() * weights[:, :, None]).sum((3, 4))
            return (total / (weights.sum((2, 3))[..., None] + MASK_AREA_EPSILON)).mean(1)

        return average(masks * valid), average((1 - masks) * valid)

    def decode(self, features, probe, history=None):
        """Logits [B,2,h,w] of background and foreground; refined only in evaluation."""
        logits = self.decoder(self.fusion(features, *probe, history))
        for _ in range(0 if self.training else self.refinements):
            logits = self.decoder(self.fusion(features, *probe, torch.softmax(logits, 1)))
        return logits.float()

    def forward(self, queries, supports, masks, valid, dual=False, history=None):
        """Logits of the queries u8 [B,H,W,3] and, with `dual`, of the supports u8 [B,K,H,W,3], each from its probe."""
        batch, shots = supports.shape[:2]
        query_features = self.encode(queries)
        support_features = self.encode(supports.flatten(0, 1))
        probe = self.probe(support_features.unflatten(0, (batch, shots)), masks, valid)
        logits = [self.decode(query_features, probe, history)]
        if dual:
            logits.append(
                self.decode(support_features, [z.repeat_interleave(shots, 0) for z in probe])
            )
        return logits


def build(model) -> FewShot:
    """The peer of a config's method, with random weights.

    Args:
      model: `config.model`, its convention resolved, of a config that `measure.refuse_what_the_peer_lacks` let pass.
    """
    if model.name == 'simpropnet' and model.fbaf:
        fusion = AttentiveFusion(model.features, model.fbaf_activation, model.attention_gain)
        return FewShot(model, fusion, 2 * model.features)
    fusion = DenseComparison(model.features, model.dropout)
    return FewShot(model, fusion, model.features, model.get('refinements', 0))


def state_dict(params: Mapping) -> dict[str, torch.Tensor]:
    """This project's parameters, or gradients in their place, with the peer's names and order of axes.

    The backbone's batch norms, which are folded into its convolutions here, become ones that only add the bias.
    """
    epsilon, state = nn.BatchNorm2d(1).eps, {}
    for path, value in traverse_util.flatten_dict(params, sep='/').items():
        layer, kind = re.sub(r'(layer\d)_(\d+)', r'\1.\2', path).replace('/', '.').rsplit('.', 1)
        value = torch.from_numpy(np.array(value, np.float32))
        shortcut, frozen = layer.endswith('downsample'), layer.startswith('backbone')
        if kind == 'kernel':
            state[f'{layer}{".0" if shortcut else ""}.weight'] = value.permute(
                3, 2, 0, 1
            ).contiguous()
        elif not frozen:
            state[f'{layer}.bias'] = value
        else:
            norm = f'{layer}.1' if shortcut else re.sub(r'conv(\d)$', r'bn\1', layer)
            state |= {f'{norm}.bias': value, f'{norm}.running_mean': torch.zeros_like(value)}
            state |= {f'{norm}.weight': torch.full_like(value, math.sqrt(1 + epsilon))}
            state |= {
                f'{norm}.running_var': torch.ones_like(value),
                f'{norm}.num_batches_tracked': torch.tensor(0),
            }
    return state


def with_weights(model, params: Mapping, device: str, setting: str = 'eager') -> FewShot:
    """The peer with this project's weights, on a device and in the memory layout of the setting."""
    network = build(model)
    network.load_state_dict(state_dict(params))
    if 'channels_last' in measure.words_of(setting):
        network.memory_format = torch.channels_last
    return network.to(device).to(memory_format=network.memory_format)


def compiled(function, setting: str):
    """The function, a module or a method, compiled where the setting says so."""
    return (
        torch.compile(function, dynamic=False)
        if 'compile' in measure.words_of(setting)
        else function
    )


def precision(device: str, setting: str) -> AbstractContextManager:
    """Make PyTorch compute in the setting's dtype: float32, or bfloat16 for operations that are safe in it."""
    return torch.autocast(device, torch.bfloat16, enabled='autocast' in measure.words_of(setting))
