"""The 80 classes of COCO in the order of its category ids, and their folds. This module is light: it loads no NumPy."""

from simpropnet_jax.datasets.folds import CLASS_NAMES as VOC_NAMES
from simpropnet_jax.datasets.folds import FOLDS, HeldOut

CLASS_NAMES = (
    'background',
    'person',
    'bicycle',
    'car',
    'motorcycle',
    'airplane',
    'bus',
    'train',
    'truck',
    'boat',
    'traffic light',
    'fire hydrant',
    'stop sign',
    'parking meter',
    'bench',
    'bird',
    'cat',
    'dog',
    'horse',
    'sheep',
    'cow',
    'elephant',
    'bear',
    'zebra',
    'giraffe',
    'backpack',
    'umbrella',
    'handbag',
    'tie',
    'suitcase',
    'frisbee',
    'skis',
    'snowboard',
    'sports ball',
    'kite',
    'baseball bat',
    'baseball glove',
    'skateboard',
    'surfboard',
    'tennis racket',
    'bottle',
    'wine glass',
    'cup',
    'fork',
    'knife',
    'spoon',
    'bowl',
    'banana',
    'apple',
    'sandwich',
    'orange',
    'broccoli',
    'carrot',
    'hot dog',
    'pizza',
    'donut',
    'cake',
    'chair',
    'couch',
    'potted plant',
    'bed',
    'dining table',
    'toilet',
    'tv',
    'laptop',
    'mouse',
    'remote',
    'keyboard',
    'cell phone',
    'microwave',
    'oven',
    'toaster',
    'sink',
    'refrigerator',
    'book',
    'clock',
    'vase',
    'scissors',
    'teddy bear',
    'hair drier',
    'toothbrush',
)
"""Name of each class id, 0..80. COCO's own category ids go up to 90, with gaps."""

EVERY_FOURTH: HeldOut = tuple(tuple(range(fold + 1, 81, 4)) for fold in FOLDS)
"""Fold i holds out the classes i, i + 4, ... counted from 0, as PFENet, HSNet and their successors do."""

BLOCKS: HeldOut = tuple(tuple(range(20 * fold + 1, 20 * fold + 21)) for fold in FOLDS)
"""Fold i holds out twenty classes in a row, as PANet and FWB do."""

OF_VOC = {
    'aeroplane': 'airplane',
    'diningtable': 'dining table',
    'motorbike': 'motorcycle',
    'pottedplant': 'potted plant',
    'sofa': 'couch',
    'tvmonitor': 'tv',
}
"""VOC classes that COCO calls by another name."""

PASCAL_BY_COCO: HeldOut = tuple(
    tuple(
        voc
        for voc in range(1, len(VOC_NAMES))
        if CLASS_NAMES.index(OF_VOC.get(VOC_NAMES[voc], VOC_NAMES[voc])) in held_out
    )
    for held_out in EVERY_FOURTH
)
"""VOC classes that a training on fold i of `EVERY_FOURTH` never saw: RePRI's folds for COCO to PASCAL."""
