"""The rules of named evaluation protocols, ours and those of peers.

`PRESETS` has ours, 'simpropnet', and those of peers. Theirs reproduce a peer's rules, as its released code has them,
and not its random draws: those depend on the versions of its libraries, and where a peer draws without a seed nobody
has them. So a number under the preset 'hsnet' was measured as HSNet measures, on other episodes than HSNet's.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Protocol:
    """Everything that decides an evaluation's episodes, at which size masks are compared, and how void pixels count."""

    name: str
    image_list: str
    """List of the Index that queries and supports come from."""
    tiny_rule: str
    """Which (image, class) pairs are too small to be listed: 'oslsm', 'px2048' or 'none'."""
    order: str
    """Which queries, in which order.

    'classes': the fold's classes in turn, the query uniform in the class; 'random': the class is random, too;
    'pairs': every listed pair, by image and then class, again and again; 'shuffled': the same, shuffled anew each time;
    'pairs first': once in that order, and shuffled anew each time after that;
    'images': every image with a listed pair, again and again, with any class of the fold that it shows, however small.
    """
    episodes: int
    """Episodes of one seed and fold."""
    seeds: tuple[int, ...]
    resolution: int | str
    """Masks are compared on squares of this side, in pixels, or at each query label's 'own' size."""
    void: str
    """Pixels labelled 255: 'ignore' in mask and metric, 'background', or 'as trained': as config.data.void says."""


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
    # (original size in the paper); binary maps without void. Its random crop of supports is config.eval.random_support.
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
    # supports are drawn one by one and may be the same; here they differ.
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
    # Ours, for one's own images: every object, however small; fewer episodes, as there are few images.
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


OF_PAPERS = tuple(name for name in PRESETS if name != 'folder')
"""For PASCAL-5i."""
