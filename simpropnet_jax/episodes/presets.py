"""The rules of named evaluation protocols: ours, and the protocols of other repositories ("peers").

`PRESETS` has ours, 'simpropnet', and one for each peer. A peer's preset reproduces the rules of its released code but
not its random draws: they depend on library versions, and a peer that draws without a seed cannot be reproduced. So a
number under the preset 'hsnet' was measured as HSNet measures, on other episodes than HSNet's.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Protocol:
    """What decides an evaluation's episodes, the size at which masks are compared, and how void pixels count."""

    name: str
    image_list: str
    """The Index's list that queries and supports come from."""
    tiny_rule: str
    """Rule for (image, class) pairs that are too small to be listed: 'oslsm', 'px2048' or 'none'."""
    order: str
    """Queries and their order.

    'classes': the fold's classes in turn, the query uniform in the class; 'random': the class is random too;
    'pairs': every listed pair, by image and then class, repeatedly; 'shuffled': the same, reshuffled each time;
    'pairs first': once in that order, then reshuffled each time;
    'images': every image with a listed pair, repeatedly, with any class of the fold in it, however small.
    """
    episodes: int
    """Episodes of one seed and fold."""
    seeds: tuple[int, ...]
    resolution: int | str
    """Side in pixels of the squares on which masks are compared, or 'own': each query label's original size."""
    void: str
    """Pixels labelled 255: 'ignore' in mask and metric, 'background', or 'as trained': as config.data.void says."""
    ways: int = 1
    """Classes of an episode. With several (order 'random'), a class counts only in queries that show it."""


PRESETS = {
    # "Three sets of random support-query test pairs for each of the splits" (SimPropNet, section 4.1; their size is
    # not stated): 1,000 episodes as in OSLSM and CANet, over the pairs that CANet, PMMs and HSNet list.
    'simpropnet': Protocol(
        'simpropnet',
        image_list='val',
        tiny_rule='oslsm',
        order='classes',
        episodes=1000,
        seeds=(0, 1, 2),
        resolution=321,
        void='as trained',
    ),
    # icoz69/CaNet, dataset_mask_val.py: the list as it is and shuffled copies of it, cut to 1,000, no seed; 321 x 321
    # (original size in the paper); binary maps without void. config.eval.random_support is its random support crop.
    'canet': Protocol(
        'canet',
        image_list='val',
        tiny_rule='oslsm',
        order='pairs first',
        episodes=1000,
        seeds=(0,),
        resolution=321,
        void='background',
    ),
    # dvlab-research/PFENet, test.py and util/dataset.py: 5,000 over the images in order, objects of 2,048 pixels
    # or more, manual_seed 321; logits resized to the original size (ori_resize), its padding ignored.
    'pfenet': Protocol(
        'pfenet',
        image_list='val',
        tiny_rule='px2048',
        order='images',
        episodes=5000,
        seeds=(321,),
        resolution='own',
        void='ignore',
    ),
    # juhongm999/hsnet, data/pascal.py: 1,000, the list's line idx % len(list), fix_randseed(0), 400 x 400. Its five
    # supports are drawn independently and may repeat; here they differ.
    'hsnet': Protocol(
        'hsnet',
        image_list='val',
        tiny_rule='oslsm',
        order='pairs',
        episodes=1000,
        seeds=(0,),
        resolution=400,
        void='ignore',
    ),
    # lzzcd001/OSLSM, ss_settings.py and ss_datalayer.py: db_cycle 1000 over the shuffled list, seed 1385 ("Do not
    # change"); queries and labels stretched to 500 x 500; void is not told from the background.
    'oslsm': Protocol(
        'oslsm',
        image_list='val',
        tiny_rule='oslsm',
        order='shuffled',
        episodes=1000,
        seeds=(1385,),
        resolution=500,
        void='background',
    ),
    # chunbolang/BAM, test.py: PFENet's loader, 1,000 episodes of each of the five seeds that seed 123 gives, the mean.
    'bam': Protocol(
        'bam',
        image_list='val',
        tiny_rule='px2048',
        order='images',
        episodes=1000,
        seeds=(510, 365, 382, 322, 988),
        resolution='own',
        void='ignore',
    ),
    # kaixin96/PANet, test.py and config.py: five runs of 1,000 from seed 1234 on, random class and images, however
    # small the object, of 'trainaug' (not of VOC val), 417 x 417.
    'panet': Protocol(
        'panet',
        image_list='trainaug',
        tiny_rule='none',
        order='random',
        episodes=1000,
        seeds=(1234, 1235, 1236, 1237, 1238),
        resolution=417,
        void='ignore',
    ),
    # kaixin96/PANet, dataloaders/customized.py and util/metric.py, n_ways 2: two classes at random, one of them the
    # query's; a class counts only where the query shows it; of other classes' pixels, all are background.
    'panet_2way': Protocol(
        'panet_2way',
        image_list='trainaug',
        tiny_rule='none',
        order='random',
        episodes=1000,
        seeds=(1234, 1235, 1236, 1237, 1238),
        resolution=417,
        void='ignore',
        ways=2,
    ),
    # juhongm999/hsnet, data/coco.py: 1,000, class and image at random of the lists in data/splits/coco, seed 0, 400 x
    # 400. Its masks do not show crowds: they are background.
    'hsnet_coco': Protocol(
        'hsnet_coco',
        image_list='val',
        tiny_rule='px2048',
        order='random',
        episodes=1000,
        seeds=(0,),
        resolution=400,
        void='background',
    ),
    # dvlab-research/PFENet, test.py and util/dataset.py with use_coco and use_split_coco: as for PASCAL, but 20,000.
    'pfenet_coco': Protocol(
        'pfenet_coco',
        image_list='val',
        tiny_rule='px2048',
        order='images',
        episodes=20000,
        seeds=(321,),
        resolution='own',
        void='background',
    ),
    # juhongm999/hsnet, data/fss.py: every image of the 240 test classes once, seed 0, 400 x 400.
    'hsnet_fss': Protocol(
        'hsnet_fss',
        image_list='val',
        tiny_rule='none',
        order='pairs',
        episodes=2400,
        seeds=(0,),
        resolution=400,
        void='ignore',
    ),
    # Ours, for a user's own images: every object, however small, and fewer episodes, as there are few images.
    'folder': Protocol(
        'folder',
        image_list='val',
        tiny_rule='none',
        order='classes',
        episodes=200,
        seeds=(0, 1, 2),
        resolution=321,
        void='as trained',
    ),
}


OF_OTHER_DATA = {'coco20i': ('hsnet_coco', 'pfenet_coco'), 'fss1000': ('hsnet_fss',)}
"""Presets for other benchmarks than PASCAL-5i, by the first part of the data set's name."""


def of_papers(data_name: str) -> tuple[str, ...]:
    """Return the presets of papers for a data set, such as 'coco20i/complete'; by default PASCAL-5i's."""
    others = {name for names in OF_OTHER_DATA.values() for name in names}
    pascal = tuple(name for name in OF_PAPERS if name not in others)
    return OF_OTHER_DATA.get(data_name.partition('/')[0], pascal)


OF_PAPERS = tuple(name for name, one in PRESETS.items() if name != 'folder' and one.ways == 1)
"""For PASCAL-5i, with one class in an episode."""
