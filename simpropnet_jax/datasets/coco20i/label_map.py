"""Draw COCO's annotations as a label map, by the rule behind the lists of PFENet, HSNet and their successors.

The rule is not published. It was found on the public annotations of 421 images of COCO: none of 1,570 (image, class)
pairs differs from HSNet's lists (docs/explanation/choices_evaluation.md has the alternatives).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from simpropnet_jax.io import coco
from simpropnet_jax.io.labels import VOID

INSTALL = (
    "COCO's masks are drawn by OpenCV, which is not installed: pip install 'simpropnet-jax[coco]'"
)


def draw(
    annotations: Sequence[coco.Annotation],
    picture: coco.AnnotatedPicture,
    class_ids: Mapping[coco.Id, int],
) -> np.ndarray:
    """Return the label map uint8 [H, W]: class ids, 0 for background and 255 for void.

    - Objects are drawn in the order of the file; later ones lie on top.
    - Polygons include their outline, with coordinates cut to whole pixels (OpenCV's fillPoly).
    - A crowd (iscrowd 1) is no object: where no object lies on it, it is void.

    Args:
      annotations: of this picture.
      picture: with its size.
      class_ids: by category id.
    Raises:
      ValueError: names an annotation that cannot be drawn.
      ImportError: OpenCV is not installed.
    """
    label = np.zeros((picture.height, picture.width), np.uint8)
    crowd = np.zeros(label.shape, bool)
    for annotation in annotations:
        outline, _ = coco.outline(annotation)
        if outline is None:
            continue
        if annotation.crowd:
            coco.draw(annotation, picture, crowd)
        elif isinstance(outline, list):
            _fill(label, outline, class_ids[annotation.category], annotation, picture)
        else:
            label[coco.mask(annotation, picture)] = class_ids[annotation.category]
    label[crowd & (label == 0)] = VOID
    return label


def _fill(label, polygons, class_id, annotation, picture) -> None:
    try:
        import cv2
    except ImportError as error:
        raise ImportError(INSTALL) from error
    far = 10 * max(label.shape)
    for polygon in polygons:
        try:
            points = np.array(polygon, np.float64).reshape(-1, 2)
            if not (np.abs(points) <= far).all():
                raise ValueError('it lies far outside the picture')
        except (ValueError, TypeError) as error:
            raise ValueError(
                f'annotation {annotation.id} of {picture.file} has a polygon that cannot be drawn: {error}'
            ) from error
        cv2.fillPoly(label, [points.astype(np.int32)], class_id)
