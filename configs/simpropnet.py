"""SimPropNet, as its paper trains it.

    python train.py --config configs/simpropnet.py:fold=2 --workdir runs/fold2
    python train.py --config configs/simpropnet.py:fold=2,cpu --workdir runs/fold2   (two CPU cores, minutes)
    python train.py --config configs/simpropnet.py:fold=2,gpu --workdir runs/fold2   (one GPU, minutes)

Rows of the paper's Table 4, as arguments: baseline, dpr, fbaf, dpr_fbaf; without one: SimPropNet, with all three parts.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(argument: str = '') -> ConfigDict:
    config = common.base()
    config.model.name = 'simpropnet'  # which method this is; the fields below are its own
    config.model.weights = (
        'keras'  # ImageNet ResNet-50: 'keras' downloads it; or a .h5 (Keras), .pth, .safetensors
    )
    config.model.convention = (
        'auto'  # input and stride convention of the backbone; 'auto': the one of the weights
    )
    config.model.width = 64  # filters of the ResNet's stem
    config.model.features = 256  # filters of the shared 3x3 layer behind the backbone
    config.model.dropout = 0.5  # of whole channels, as CANet's; the paper does not say
    config.model.fbaf = (
        True  # foreground/background attentive fusion; False: CANet's dense comparison
    )
    config.model.fbaf_activation = (
        'none'  # ReLU in Eq. 3: 'none' as printed; 'relu' after norms; 'block' before sums
    )
    config.model.attention_gain = (
        1.0  # spreads A^f and A^b around 1/2; 1: Eq. 3 as written; see docs/CHOICES.md
    )
    config.model.dtype = (
        'float32'  # of the computation; 'bfloat16' on accelerators; parameters stay float32
    )

    config.train.dual_prediction = True
    config.train.ica = 0.25
    return common.apply(
        config,
        argument,
        {
            'cpu': cpu,
            'gpu': gpu,
            'baseline': row(False, False, 0.0),
            'dpr': row(True, False, 0.0),
            'fbaf': row(False, True, 0.0),
            'dpr_fbaf': row(True, True, 0.0),
        },
    )


def row(dual_prediction: bool, fbaf: bool, ica: float):
    """A row of Table 4."""

    def change(config):
        config.train.dual_prediction = dual_prediction
        config.model.fbaf = fbaf
        config.train.ica = ica

    return change


def cpu(config: ConfigDict) -> None:
    """Minutes on two CPU cores: small images, few steps, a recipe that learns fast; not for the paper's numbers."""
    common.minutes(config)
    config.train.learning_rate = 1e-2  # four times the paper's, falling to zero
    config.model.attention_gain = (
        5000.0  # without it so short a training hardly looks at the support
    )


def gpu(config: ConfigDict) -> None:
    """Minutes on one GPU: the `cpu` recipe at the paper's size; in so short a time far above the paper's own."""
    cpu(config)
    config.train.size = config.eval.size = 321
    config.train.batch = 8
    config.train.steps, config.train.epochs = 0, 13
    config.select.every, config.select.episodes = 0, 500
    config.eval.batch = 32
