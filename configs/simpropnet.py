"""SimPropNet, as its paper trains it.

    simpropnet train --config simpropnet:fold=2 --workdir runs/fold2
    simpropnet train --config simpropnet:fold=2,cpu --workdir runs/fold2   (two CPU cores, minutes)
    simpropnet train --config simpropnet:fold=2,gpu --workdir runs/fold2   (one GPU, minutes)

The word all_classes trains on all classes, for use on photographs; then no class is left to evaluate on.
The words baseline, dpr, fbaf and dpr_fbaf give rows of the paper's Table 4. The default has all three parts.
"""

from ml_collections import ConfigDict

from simpropnet_jax.config import common


def get_config(argument: str = '') -> ConfigDict:
    config = common.base('simpropnet')
    config.model.features = 256  # filters of the shared 3x3 layer behind the backbone
    config.model.dropout = 0.5  # dropout of whole channels, as in CANet; the paper does not say
    config.model.fbaf = True  # attentive fusion (FBAF); False: CANet's dense comparison
    config.model.fbaf_activation = 'none'  # ReLU in Eq. 3: 'none' (paper), 'relu' (norms), 'block'
    config.model.attention_gain = 1.0  # spreads A^f, A^b around 1/2, see docs/explanation

    config.train.dual_prediction = True  # DPr
    config.train.ica = 0.25  # ICA; SimPropNet, 3.6
    words = {'cpu': cpu, 'gpu': gpu, 'all_classes': common.all_classes, **ROWS}
    return common.apply(config, argument, words)


def row(dual_prediction: bool, fbaf: bool, ica: float) -> common.Change:
    """Return a row of Table 4."""

    def change(config: ConfigDict) -> None:
        config.train.dual_prediction = dual_prediction  # DPr
        config.model.fbaf = fbaf  # FBAF
        config.train.ica = ica  # ICA

    return change


ROWS = {
    'baseline': row(False, False, 0.0),
    'dpr': row(True, False, 0.0),
    'fbaf': row(False, True, 0.0),
    'dpr_fbaf': row(True, True, 0.0),
}


def cpu(config: ConfigDict) -> None:
    """Train for minutes on two CPU cores: small images, few steps, a fast recipe; not for the paper's numbers."""
    common.minutes(config)
    config.train.learning_rate = 1e-2  # four times the paper's, falling to zero
    config.model.attention_gain = 5000.0  # else so short a training hardly looks at the support


def gpu(config: ConfigDict) -> None:
    """Train for minutes on one GPU: `cpu` at the paper's size; far above the paper's recipe in this time."""
    cpu(config)
    config.train.size = config.eval.size = 321  # the paper's
    config.train.batch = 8  # the paper's
    config.train.steps, config.train.epochs = 0, 13  # minutes
    config.select.every, config.select.episodes = 0, 500  # after every epoch
    config.eval.batch = 32  # fills a GPU
