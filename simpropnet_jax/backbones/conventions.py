"""What a backbone expects of its input: one convention per source of weights."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Convention:
    """How the weights of one source were trained. `mean` and `std` are in the order of `channels`."""

    channels: str  # order of the input channels, 'RGB' or 'BGR'
    scale: float  # factor on 0..255 before the mean is subtracted
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    stride_on: str  # which convolution of a bottleneck strides: its first '1x1' or its '3x3'
    epsilon: float  # of the batch norms, needed to fold them into the convolutions


CONVENTIONS = {
    # keras.applications.resnet: He et al.'s Caffe layout
    'keras': Convention('BGR', 1.0, (103.939, 116.779, 123.68), (1.0, 1.0, 1.0), '1x1', 1.001e-5),
    # torchvision.models.resnet50: "ResNet v1.5"
    'torchvision': Convention(
        'RGB', 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), '3x3', 1e-5
    ),
    # CANet's released code: torchvision's weights in a network that strides elsewhere than in their training
    'canet': Convention('RGB', 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), '1x1', 1e-5),
}


def get_convention(name: str) -> Convention:
    """Return the convention of that name. Raises ValueError if there is none."""
    if name not in CONVENTIONS:
        raise ValueError(
            f'the normalisation convention must be one of {", ".join(CONVENTIONS)}, got {name!r} '
            '(it is a property of the weights: load_backbone returns the right one as .convention)'
        )
    return CONVENTIONS[name]
