"""The papers' measurements in addition to mIoU: H-PASCAL-5i and the premise experiments."""
