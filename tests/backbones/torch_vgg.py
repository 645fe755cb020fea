"""VGG-16 in PyTorch, in torchvision's names, with the poolings and dilations of the methods that were built on it."""

import torch

# Each block: the dilations of its convolutions and the pooling behind it.
POOLINGS = {
    '2': dict(kernel_size=2, stride=2),
    '2 ceil': dict(kernel_size=2, stride=2, ceil_mode=True),  # as Caffe
    '3': dict(kernel_size=3, stride=2, padding=1),
    '3 stride 1': dict(kernel_size=3, stride=1, padding=1),
}
PUBLISHED = [((1, 1), '2'), ((1, 1), '2'), ((1, 1, 1), '2'), ((1, 1, 1), '2'), ((1, 1, 1), '2')]
PANET = [
    ((1, 1), '3'),
    ((1, 1), '3'),
    ((1, 1, 1), '3'),
    ((1, 1, 1), '3 stride 1'),
    ((2, 2, 2), None),
]
SG_ONE = [
    ((1, 1), '3'),
    ((1, 1), '3'),
    ((1, 1, 1), '3'),
    ((1, 1, 1), '3 stride 1'),
    ((1, 1, 1), '3 stride 1'),
]
AMP = [
    ((1, 1), '2 ceil'),
    ((1, 1), '2 ceil'),
    ((1, 1, 1), '2 ceil'),
    ((1, 1, 2), None),
    ((2, 4, 4), None),
]
CAFFE = [(dilations, '2 ceil') for dilations, _ in PUBLISHED]  # co-FCN and OSLSM


class TorchVGG(torch.nn.Module):
    """x [B, 3, H, W] -> dict of what ends each block, conv1 to conv5 and pool1 to pool5.

    Its classifier is of an image of 224 x 224: of the last of these, flattened.
    """

    def __init__(self, plan=PUBLISHED, width=64, last_relu=True, classifier=False):
        super().__init__()
        layers, self.ends, channels = [], {}, 3
        for block, ((dilations, pooling), filters) in enumerate(
            zip(plan, (1, 2, 4, 8, 8), strict=True), 1
        ):
            for dilation in dilations:
                layers += [
                    torch.nn.Conv2d(channels, filters * width, 3, 1, dilation, dilation),
                    torch.nn.ReLU(),
                ]
                channels = filters * width
            if block == 5 and not last_relu:
                layers.pop()
            self.ends[len(layers) - 1] = f'conv{block}'
            if pooling:
                layers.append(torch.nn.MaxPool2d(**POOLINGS[pooling]))
                self.ends[len(layers) - 1] = f'pool{block}'
        self.features = torch.nn.Sequential(*layers)
        if classifier:
            sizes = (49 * channels, 64 * width, 64 * width, 1000)
            first, second, third = (
                torch.nn.Linear(*pair) for pair in zip(sizes, sizes[1:], strict=False)
            )
            relu, dropout = torch.nn.ReLU(), torch.nn.Dropout()
            self.classifier = torch.nn.Sequential(
                first, relu, dropout, second, relu, dropout, third
            )

    def convolutions(self):
        return [layer for layer in self.features if isinstance(layer, torch.nn.Conv2d)]

    def take(self, other):
        """The convolutions of another VGG, whatever its poolings."""
        for own, theirs in zip(self.convolutions(), other.convolutions(), strict=True):
            own.load_state_dict(theirs.state_dict())
        return self

    def forward(self, x):
        found = {}
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.ends:
                found[self.ends[i]] = x
        return found


def randomise(model, seed):
    """Weights of He's deviation, so that activations stay of one size, and biases that matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = parameter[0].numel()
            deviation = (2 / fan_in) ** 0.5 if parameter.ndim > 1 else 0.3
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * deviation)
    return model
