"""Lists of images as other repositories write them: paths, pairs of paths, endings, classes, and any Unicode."""

import codecs
import re
from pathlib import PurePosixPath

ENDINGS = ('.jpg', '.jpeg', '.png')
CLASS = re.compile(r'__\d{1,2}$')  # HSNet's lists name the class of each line: 2007_000129__01
MARKS = {
    codecs.BOM_UTF8: 'utf-8-sig',
    codecs.BOM_UTF16_LE: 'utf-16',
    codecs.BOM_UTF16_BE: 'utf-16',
}


def lines(data: bytes, place: str) -> list[str]:
    """Return the lines of a text that are not blank, without blanks around them.

    Args:
      data: the file's bytes, in UTF-8 or, with a byte-order mark, in UTF-16.
      place: the file, for messages.
    Raises:
      ValueError: it is no text.
    """
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), 'utf-8')
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f'{place} is not a list: it is no text in UTF-8 ({error})') from error
    if '\0' in text:
        raise ValueError(f'{place} is not a list: it is no text in UTF-8')
    return [line.strip() for line in text.splitlines() if line.strip()]


def image_ids(data: bytes, place: str) -> list[str]:
    """Return the image ids of a list: of a line with a path, or with two, the name of the image.

    Args:
      data, place: see `lines`.
    Raises:
      ValueError: it is no text.
    """
    ids, seen = [], set()
    for line in lines(data, place):
        name = image_name(line.split()[0])
        plain = CLASS.sub('', name)
        if plain == name or plain not in seen:  # a line for each class of an image
            ids.append(plain)
            seen.add(plain)
    return ids


def image_name(path: str) -> str:
    """Return the last name of a path, without the ending of a picture."""
    name = PurePosixPath(path.replace('\\', '/')).name
    stem, dot, ending = name.rpartition('.')
    return stem if dot and f'.{ending}'.lower() in ENDINGS else name
