"""Which entry of an annotation file a picture is: one rule for the names that tools write.

A name may have folders, backslashes, a drive, a URL (`s3://`, `https://`, Label Studio's `/data/upload/` and
`/data/local-files/?d=`), percent signs, and letters in another Unicode form. Names are compared from their end: the
last part must fit. If several fit, the name that shares most folders with the picture wins. Forms are tried in order:
as written, in one Unicode form, with percent signs decoded, without Label Studio's prefix of an upload (`cb0618f6-`),
and at last in lower case.
"""

import os
import re
import unicodedata
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, unquote

LOCAL = '/data/local-files/?'
UPLOAD = re.compile(
    r'[0-9a-f]{8}(-|__)(?=.)'
)  # what Label Studio puts before the name of an upload


class Match(NamedTuple):
    """An entry that a picture fits.

    Attributes:
      key: of the entry.
      how: the parts and the form in which the names agree, in words.
      rank: of two matches the smaller one is the better.
    """

    key: Hashable
    how: str
    rank: tuple[int, bool, int]


class FileNames:
    """The names of pictures in an annotation file.

    Args:
      names: by key.
      folders: of the annotation files, by key; relative names begin there.
    """

    def __init__(self, names: Mapping[Hashable, str], folders: Mapping[Hashable, Path]):
        self._parts = {key: parts(name) for key, name in names.items()}
        self._below = {
            key: () if _is_absolute(name) else folders[key].parts for key, name in names.items()
        }
        self._by_last: dict[int, dict[str, list[Hashable]]] = {}

    def find(self, file: str | os.PathLike) -> list[Match]:
        """Return the best matches of a picture: none, one, or several equally good ones."""
        own = Path(os.path.abspath(file)).parts
        for number, (_, _, of_file) in enumerate(_FORMS):
            keys = self._of_form(number).get(of_file(own[-1]), [])
            matches = [self._match(key, own, number) for key in keys]
            if matches:
                best = min(match.rank for match in matches)
                return [match for match in matches if match.rank == best]
        return []

    def _match(self, key, own, form) -> Match:
        shared = self._shared(key, own)
        whole = shared >= len(self._parts[key])
        how = 'by its whole name' if whole else 'by the end of its name'
        if shared == 1 and not whole:
            how = 'by the last part of its name'
        return Match(key, how + _FORMS[form][0], (form, not whole, -shared))

    def _of_form(self, number) -> dict[str, list[Hashable]]:
        """Return keys by the last part of their name in a form."""
        if number not in self._by_last:
            form, index = _FORMS[number][1], {}
            for key, of_key in self._parts.items():
                if of_key:
                    index.setdefault(form(of_key[-1]), []).append(key)
            self._by_last[number] = index
        return self._by_last[number]

    def _shared(self, key, own) -> int:
        """Return how many of the last parts agree; the last one does already."""
        folders = [*self._below[key], *self._parts[key][:-1]]
        shared = 1
        for one, other in zip(reversed(folders), reversed(own[:-1]), strict=False):
            if _folded(one) != _folded(other):
                break
            shared += 1
        return shared


def parts(name: str) -> tuple[str, ...]:
    """Return the parts of a path or URL: `s3://bucket/a/b.jpg` has bucket, a and b.jpg."""
    if LOCAL in name:
        name = parse_qs(name.partition(LOCAL)[2]).get('d', [''])[-1]
    scheme, separator, rest = name.partition('://')
    if separator:
        name = re.split('[?#]', rest)[0] if scheme.lower() in ('http', 'https') else rest
    return tuple(part for part in name.replace('\\', '/').split('/') if part not in ('', '.', '..'))


def _is_absolute(name) -> bool:
    return '://' in name or name[:1] in ('/', '\\') or name[1:2] == ':'


def _as_written(name):
    return name


def _composed(name):
    return unicodedata.normalize('NFC', name)


def _decoded(name):
    return _composed(unquote(name))


def _without_prefix(name):
    return UPLOAD.sub('', _decoded(name), count=1)


def _folded(name):
    return _decoded(name).casefold()


_PREFIX = ", without Label Studio's prefix"
_FORMS = (  # the words for it, the form of the annotated name, the form of the file's
    ('', _as_written, _as_written),
    (', in another Unicode form', _composed, _composed),
    (', percent signs decoded', _decoded, _decoded),
    (_PREFIX, _without_prefix, _decoded),
    (_PREFIX, _decoded, _without_prefix),
    (', but for upper and lower case', _folded, _folded),
)
