"""FSS-1000 as a TFDS data set: a thousand classes of ten images, each with one object."""
