"""COCO-20i as a TFDS data set: COCO 2014 with label maps drawn from its annotations.

The package is light to import, because checking a config needs its classes; `builder` and `prepare` are not.
"""
