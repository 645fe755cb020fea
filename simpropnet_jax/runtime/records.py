"""JSON files of this package: written with a checksum, read in one way, compared with a declared content.

A content is a `TypedDict`: entries that it does not name may hold anything. The entry CHECKSUM is the SHA-256 of all
others, as JSON in ASCII, keys sorted, without blanks; files of earlier versions have none. A file that grows (metrics,
finished pictures) has a checksum in each line.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from typing import Any

import msgspec

from simpropnet_jax.runtime import paths
from simpropnet_jax.runtime.paths import AnyPath

CHECKSUM = 'sha256'
LINE_CHECKSUM = 'crc32'
LONGEST = 200  # characters of a problem that a message quotes


def read(path: AnyPath, content: Any, again: str, version: int | None = None) -> dict[str, Any]:
    """Return what `write` wrote, without the checksum.

    Args:
      path: the file.
      content: the type that it must have, a TypedDict or dict[str, ...].
      again: how to get the file back, as a sentence: 'Evaluate again'.
      version: value that the entry 'format' must have; None: there is no such entry.
    Raises:
      OSError: there is no such file.
      ValueError: the file is damaged, or of another version; names it, what is wrong, and `again`.
    """
    record = parse(path, again)
    told = record.get('format') if isinstance(record, dict) else None
    if version is not None and isinstance(told, int) and told != version:
        raise ValueError(f'{path} has format {told}, of another version, not {version}. {again}')
    return verify(check(record, content, path, again), path, again)


def parse(path: AnyPath, again: str) -> Any:
    """Return the content of any JSON file.

    Raises:
      OSError: there is no such file.
      ValueError: it is not JSON; see `read`.
    """
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # also where it is no text
        raise ValueError(f'{path} is damaged: it is not JSON ({_short(error)}). {again}') from error


def check(value: Any, content: Any, path: AnyPath, again: str) -> Any:
    """Return a value that has the declared content.

    Raises:
      ValueError: it has not; see `read`.
    """
    rest = value
    if isinstance(value, dict):
        rest = {name: entry for name, entry in value.items() if name != CHECKSUM}
    try:
        msgspec.convert(rest, content)
    except (msgspec.ValidationError, RecursionError, OverflowError) as error:
        raise ValueError(
            f'{path} is damaged or another kind of file: {_problem(error)}. {again}'
        ) from error
    return value


def verify(record: dict[str, Any], path: AnyPath, again: str) -> dict[str, Any]:
    """Remove the checksum of a record, if it has one, and return the record.

    Raises:
      ValueError: the checksum is another; see `read`.
    """
    told = record.pop(CHECKSUM, None)
    if told is not None and told != checksum(record):
        raise ValueError(
            f'{path} is damaged or was changed by hand: its {CHECKSUM} is another. {again}, or delete the entry '
            f'{CHECKSUM} to use the file as it is'
        )
    return record


def write(path: AnyPath, record: Mapping[str, Any], sort_keys: bool = True) -> None:
    """Write a record with its checksum, as `write_json` does."""
    plain = json.loads(json.dumps(record))  # tuples become lists
    write_json(path, plain | {CHECKSUM: checksum(plain)}, sort_keys)


def checksum(record: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a record, in hexadecimal."""
    rest = {name: value for name, value in record.items() if name != CHECKSUM}
    text = json.dumps(rest, sort_keys=True, separators=(',', ':'))
    return hashlib.sha256(text.encode()).hexdigest()


def line(record: Mapping[str, Any]) -> str:
    """Return a record as a line with its checksum."""
    text = json.dumps(record)
    return f'{text[:-1]}, "{LINE_CHECKSUM}": "{_crc32(text)}"}}\n'


def of_line(text: str | bytes) -> dict[str, Any]:
    """Return the record of a line, without the checksum; earlier versions wrote none.

    Raises:
      ValueError: the line is damaged, or cut short.
    """
    try:
        record = json.loads(text)
    except RecursionError as error:
        raise ValueError('it is nested too deeply') from error
    if not isinstance(record, dict):
        raise ValueError('it is not an object')
    told = record.pop(LINE_CHECKSUM, None)
    if told is not None and told != _crc32(json.dumps(record)):
        raise ValueError(f'its {LINE_CHECKSUM} is another')
    return record


def write_json(path: AnyPath, value: Any, sort_keys: bool = True) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of one, even after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, indent=1, sort_keys=sort_keys) + '\n'
    if paths.is_url(path):
        path.write_text(text)
        return
    temporary = path.with_suffix(path.suffix + '.tmp')
    with temporary.open('w') as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _crc32(text: str) -> str:
    return f'{zlib.crc32(text.encode()):08x}'


def _problem(error: Exception) -> str:
    """Return msgspec's message with the entry first: 'protocol.name: expected `str`, got `int`'."""
    problem, separator, place = _short(error).partition(' - at `$')
    if not separator:
        return problem[:1].lower() + problem[1:]
    return f'{place.strip("`.")}: {problem[:1].lower() + problem[1:]}'


def _short(error: Exception) -> str:
    return ' '.join(str(error).split())[:LONGEST]
