"""The bundled model on the sample photographs: masks within seconds, without pictures of one's own."""

from pathlib import Path

from simpropnet_jax.inference.run import predict
from simpropnet_jax.published import locate
from simpropnet_jax.samples import samples

SUPPORTS = {'person': 'person_1', 'rocket': 'rocket'}
"""Class -> the sample that is its support. No training has seen a rocket."""
QUERIES = ('person_1', 'person_2', 'rocket')

NEXT = """
Look at {out}/sheet_001.jpg: persons and rockets in three photographs.
The one example of a person was person_1.jpg, that of a rocket rocket.jpg. Rockets are no class of the training.
Now your own pictures:

  simpropnet segment --support cat.jpg cat.png --query photos --out masks
  simpropnet app        (in the browser: pip install 'simpropnet-jax[app]')
"""


def segment_samples(out: Path) -> None:
    """Segment persons and rockets in sample photographs, from one example of each, and say what to look at.

    Args:
      out: folder of masks, overlays and a contact sheet; created if missing.
    Raises:
      ValueError, OSError: in one sentence, what is wrong.
    """
    found = {sample.name: sample for sample in samples()}
    given = [(word, found[name].image, found[name].mask) for word, name in SUPPORTS.items()]
    pictures = [found[name].image for name in QUERIES]
    predict(locate.find(None), given, pictures, out, write=('mask', 'overlay', 'sheet'))
    print(NEXT.format(out=out), end='')
