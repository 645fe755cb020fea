"""Fields that every method shares, one comment each, and the arguments that every config file takes."""

from ml_collections import ConfigDict


def base() -> ConfigDict:
    """The recipe of CANet's and SimPropNet's papers, as far as it does not depend on the method."""
    config = ConfigDict()
    config.seed = 0  # initial weights, episodes, augmentation, dropout
    config.fold = 0  # 0..3: the five classes held out; the papers call them split-1 to split-4. Your own: folds.json

    config.data = data = ConfigDict()
    data.name = 'pascal5i/sbd'  # pascal5i/sbd, /aug or /subset, prepared; shapes5i, embedded; folder, your own images
    data.dir = '~/tensorflow_datasets'  # where it was prepared, or a gs:// URL of a copy; shapes5i is drawn there
    data.train_list = (
        'trainaug'  # 'trainaug' (10,582 images, CANet's) or 'noval' (5,953 images, PFENet's)
    )
    data.tiny_rule = 'oslsm'  # which objects are too small to train on: 'oslsm' (CANet's), 'px2048' (PFENet's), 'none'
    data.drop_novel_images = (
        False  # True: training images with any novel class are left out (BAM's rule, about 3 mIoU)
    )
    data.void = 'ignore'  # 255 pixels, in the loss and under 'simpropnet': 'ignore', or 'background' as papers' masks
    data.loader = 'auto'  # 'tfdata', 'threads' (no TensorFlow), or 'auto': tf.data where TensorFlow is installed
    data.workers = 2  # threads that decode and resize, per host
    data.resident = 'auto'  # training images in device memory: 'always', 'never', 'auto': in 40 % of a GPU's at most

    config.model = ConfigDict()  # the method's own fields; see its config file

    config.train = train = ConfigDict()
    train.start = ''  # work directory whose best weights the training starts from, all of them; '': see model.weights
    train.epochs = 180  # an epoch is (listed pairs // batch) steps; SimPropNet, 3.6
    train.steps = 0  # a number of steps in place of the epochs; 0: as many as the epochs give
    train.batch = 8  # pairs a step, over all devices and hosts
    train.shot = 1  # supports of a training episode
    train.size = (
        321  # side of the square that images are stretched to; 8n+1 fits the stride-8 features
    )
    train.classes = (
        'base'  # what is trained: 'base' (the fold's), or 'all': a supervised oracle's, or your own
    )
    train.sampling = (
        'listed_pairs'  # every (image, class) pair once an epoch (the papers), or 'classes': evenly
    )
    train.support_scale = (
        1.5  # supports are scaled by U(1, this) and cropped back to `size` (CANet); 1: not
    )
    train.support_flip = True  # supports are mirrored every other time (CANet)
    train.turn = (
        False  # images come in the eight positions of a square: where up and down mean nothing
    )
    train.dual_prediction = (
        False  # the support mask is predicted too and its loss added (SimPropNet, 3.3)
    )
    train.crc = False  # the support mask is predicted back from the predicted query mask (cyclic reinforcement)
    train.alignment = False  # so, but from the hard predicted mask, through which no gradient runs (PANet's alignment)
    train.history_drop = (
        0.7  # share of the episodes that CANet sees without its earlier answer; 1: it keeps none
    )
    train.ica = 0.0  # probability, at the start, that a query loses its colour (SimPropNet, 3.6)
    train.ica_decay = 0.01  # its factor over the whole training, exponential as the paper says: from 0.25 to 0.0025
    train.foreground_weight = (
        1.0  # of foreground pixels in the loss; above 1, fewer novel objects are missed
    )
    train.optimizer = 'sgd'  # 'sgd' with momentum (the papers); 'adamw', where a backbone starts anew; 'rmsprop', AMP's
    train.learning_rate = 2.5e-3  # SimPropNet, 3.6
    train.rate_factor = 1.0  # times the learning rate; apart from it, as CANet's code has the two
    train.poly_power = (
        0.0  # 0: the rate stays constant (SimPropNet, 3.6); 0.9: it falls to zero, as PFENet's does
    )
    train.warmup_steps = (
        0  # steps in which the rate first rises from zero; with 'adamw' it keeps units alive
    )
    train.momentum = 0.9  # CANet's; of 'sgd'
    train.weight_decay = 5e-4  # CANet's, on every trainable parameter
    train.clip = 0.0  # a gradient longer than this is shortened to it; 0: never (the papers)
    train.initial_gain = 0.0  # 0: a head's kernels are drawn from N(0, 0.01), CANet's; else this times He's deviation
    train.frozen = (
        'backbone',
    )  # parts never trained, by path: 'backbone', 'fusion/conv1'; () trains all
    train.log_every = 20  # steps between two lines of metrics
    train.steps_per_dispatch = (
        1  # steps that an accelerator makes at one call; above 1 needs resident images
    )

    config.tpc = tpc = (
        ConfigDict()
    )  # transformed-pair conditioning (CRC + TPC, 3.2): the query is a changed support
    tpc.when = 'never'  # 'before' the training (the paper), 'after' it, 'mixed' into it (its controls, 6.2), 'never'
    tpc.epochs = 30  # of 'before' and 'after'; the paper's, which has 10 for its control 'after'
    tpc.steps = 0  # a number of steps in place of the epochs; 0: as many as the epochs give
    tpc.mix = 0.5  # of 'mixed': the share of pairs that are transformed; the paper does not say
    tpc.probability = 0.5  # of each transform but the flip; this and all below are ours: the paper's cannot be had
    tpc.distortion = (
        0.04  # smooth (elastic) displacement, by up to about this share of the side; 0: none
    )
    tpc.rotation = 30.0  # degrees; a pair is turned by -this to this; 0: not
    tpc.zoom = 1.5  # a pair is magnified by 1 to this, around any point; 1: not
    tpc.flip = 0.5  # probability of left to right
    tpc.noise = 0.05  # standard deviation of Gaussian noise, as a share of 255; 0: none
    tpc.pepper = 0.04  # share of the pixels that turn black; 0: none

    config.select = select = ConfigDict()
    select.on = 'novel_val'  # best mIoU on 'novel_val' (the papers), 'base_val' (clean), 'val' (supervised), or 'last'
    select.every = 0  # steps between two selections, each with a checkpoint; 0: once an epoch
    select.episodes = 1000  # 1-shot episodes of a selection, at the size of training

    config.eval = evaluation = ConfigDict()
    evaluation.protocol = (
        'simpropnet'  # lists, episodes, seeds, size and void rule: episodes/protocols.py, PRESETS
    )
    evaluation.episodes_file = (
        ''  # of episodes that are taken, with their protocol, instead of drawing them; '': drawn
    )
    evaluation.shots = (1, 5)  # supports of an episode
    evaluation.episodes = (
        0  # episodes of each seed; 0: as many as the protocol has ('simpropnet': 1000)
    )
    evaluation.seeds = ()  # one set of episodes each; (): the protocol's ('simpropnet': three, as in its paper)
    evaluation.size = 321  # side of the square that images are stretched to
    evaluation.label_size = (
        0  # side of the square at which masks are compared; 0: the protocol's ('simpropnet': 321)
    )
    evaluation.own_size = True  # compare them at each label's own size, too
    evaluation.scales = (
        1.0,
    )  # queries at these sizes, their answers averaged; CANet's paper: (0.7, 1.0, 1.3)
    evaluation.refinement = (
        'fixed'  # of CANet: as model.refinements says; so often: '2'; or 'until_drop' of the mIoU
    )
    evaluation.self_support = (
        0  # rounds in which the query's confident pixels are its own support, as SSP; 0: none
    )
    evaluation.random_support = (
        False  # True: supports are cropped at random, a quirk of CANet's released test
    )
    evaluation.memory = (
        3.0  # GiB of a device for the features of images; more are encoded part after part
    )
    evaluation.batch = 8  # images and episodes at a time, over all devices
    return config


def minutes(config: ConfigDict) -> None:
    """What a training of minutes on two CPU cores has in common, whatever the method."""
    config.data.drop_novel_images = (
        True  # or so few steps teach above all that novel objects are background
    )
    config.train.size = 225
    config.train.batch = 4
    config.train.steps = 500
    config.train.poly_power = 0.9
    config.train.sampling = 'classes'  # or a few hundred steps see mostly persons and dogs
    config.train.support_scale = 1.0
    config.model.dtype = (
        'bfloat16'  # the cores' bfloat16 units (AMX) are 2.5 times as fast; elsewhere no loss
    )
    config.eval.size = 225
    config.select.every = 250
    config.select.episodes = 200


def crc(config: ConfigDict) -> None:
    """Cyclic reinforcement, in place of the same cycle with a hard mask."""
    config.train.crc = True
    config.train.alignment = False


def tpc(when: str):
    """Transformed-pair conditioning; a training of so many steps keeps their number, conditioning included."""

    def change(config):
        if config.tpc.when != 'never':
            raise ValueError(
                'of tpc, tpc_mixed and tpc_after only one can be given: a training has one conditioning'
            )
        config.tpc.when = when
        config.tpc.epochs //= (
            3 if when == 'after' else 1
        )  # the paper's control: 10 where it has 30 before
        if config.train.steps and when in ('before', 'after'):
            config.tpc.steps = max(config.train.steps // 7, 1)  # the paper's 30 of 230 epochs
            config.train.steps -= config.tpc.steps

    return change


def own(config: ConfigDict) -> None:
    """Your own images: few, of any size, in a folder that `python -m simpropnet_jax.datasets.folder` prepared."""
    config.data.name = 'folder'
    config.data.tiny_rule = 'none'
    config.train.sampling = 'classes'
    config.select.episodes = 200
    config.eval.protocol = 'folder'
    config.eval.shots = (1,)


# Words that every method's config takes after the colon.
SHARED = {'crc': crc, 'tpc': tpc('before'), 'tpc_mixed': tpc('mixed'), 'tpc_after': tpc('after')}


def apply(config: ConfigDict, argument: str, switches: dict) -> ConfigDict:
    """Applies the text after the colon of `--config file.py:fold=2,cpu` to a config.

    Args:
      argument: words separated by commas, in any order: `fold=N`, `seed=N`, one of the switches, `own`, one of
        `SHARED`.
      switches: word -> function that changes the config; they are applied in their own order, before `SHARED`.
    Raises:
      ValueError: for any other word.
    """
    words = list(filter(None, argument.split(',')))
    switches = {**switches, 'own': own, **SHARED}
    for word in words:
        name, _, value = word.partition('=')
        if name in ('fold', 'seed') and value.lstrip('-').isdigit():
            config[name] = int(value)
        elif word not in switches:
            allowed = ', '.join(['fold=N', 'seed=N', *switches])
            raise ValueError(
                f'unknown config argument {word!r}; allowed after the colon: {allowed}'
            )
    for word, change in switches.items():
        if word in words:
            change(config)
    return config
