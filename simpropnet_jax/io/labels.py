"""Values of labels."""

FOREGROUND = 1
"""Pixels of the object, in the label of an episode's image: 0 is background, 1 the object, 255 void."""

VOID = 255
"""Pixels that belong to no class, in every label: object borders, difficult objects."""
