"""Values of labels."""

FOREGROUND = 1
"""Pixels of the object, in the label of an episode's image: 0 is background, 1 the object, 255 void."""

VOID = 255
"""Pixels that belong to no class, in every label: object borders, difficult objects."""

VALUES = VOID - 1  # what is left of eight bits, without background and void


def label_value(class_id):
    """Return the value of a class in stored labels, 1..254: its id, if there are at most 254 classes.

    With more classes, several share a value. That is exact where no image shows two of them, as in FSS-1000, whose
    images show one class each.

    Args:
      class_id: an int, or an array of NumPy or JAX; from 1.
    """
    return (class_id - 1) % VALUES + 1
