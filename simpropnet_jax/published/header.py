"""What the file of a published model says of it: where it comes from, its config and its card. Loads no library.

A *published folder* has this file under the name `NAME`, and config, card and checksums as files of their own. The file
alone is a whole model, too. Both stand in for a run folder wherever weights are read.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import msgspec

from simpropnet_jax.runtime import paths, records
from simpropnet_jax.runtime.paths import AnyPath

NAME = 'model.safetensors'
ENDING = '.safetensors'
FORMAT = 1
AGAIN = 'Download or publish it again'
CHECKSUM = 'sha256'  # of the texts, as one of them; earlier versions wrote none


class About(TypedDict):
    """What a file says of its model.

    Attributes:
      format: `FORMAT`.
      name: of the model, 'simpropnet-voc'.
      weights: kind of the stored weights, one of `quantise.KINDS`.
      step: of the checkpoint.
      summary: in one line, which method it is and what it was trained on.
      data: data set of the training, 'pascal5i/sbd'.
      classes: names of the classes that it was trained on.
      sha256: of the stored arrays, see `model_file`.
    """

    format: int
    name: str
    weights: str
    step: int
    summary: str
    data: str
    classes: list[str]
    sha256: NotRequired[str]


def of(workdir: AnyPath) -> Path | None:
    """Return the file of a published model: the file itself, or the file in a published folder.

    None for a run folder that has checkpoints, and for folders in a cloud's storage.
    """
    if paths.is_url(workdir):
        return None
    if workdir.suffix == ENDING and workdir.is_file():
        return workdir
    if (workdir / NAME).is_file() and not (workdir / 'checkpoints').is_dir():
        return workdir / NAME
    return None


def config_file(workdir: AnyPath) -> AnyPath:
    """Return the file that has the config of a run folder, a published folder or a published file."""
    return workdir if of(workdir) == workdir else workdir / 'config.json'


def read_about(path: Path) -> About:
    """Return what a file says of its model.

    Raises:
      ValueError: the file is damaged, or `simpropnet publish` did not write it.
    """
    texts = _texts(path, 'about')
    about = _parsed(path, texts['about'])
    told = about.get('format') if isinstance(about, dict) else None
    if isinstance(told, int) and told != FORMAT:
        raise ValueError(
            f'{path} has format {told}, but this version reads format {FORMAT}. Update simpropnet_jax'
        )
    _verify(path, texts)
    try:
        return msgspec.convert(about, About)
    except msgspec.ValidationError as error:
        raise ValueError(f'{path} is damaged ({error}). {AGAIN}') from error


def read_config(path: Path) -> Any:
    """Return the config of a file, as JSON data. Raises as `read_about`."""
    return _parsed(path, _text(path, 'config'))


def read_card(path: Path) -> str:
    """Return the model card of a file, in Markdown. Raises as `read_about`."""
    return _text(path, 'card')


def with_checksum(texts: Mapping[str, str]) -> dict[str, str]:
    """Return the texts of a file with their checksum."""
    total = hashlib.sha256(json.dumps(dict(texts), sort_keys=True).encode())
    return {**texts, CHECKSUM: total.hexdigest()}


def copy(file: Path, folder: Path) -> None:
    """Copy a model into a folder that is new or has the same model; then it is a published folder.

    Raises:
      ValueError: the folder has another model, or a training.
    """
    target, settings = folder / NAME, folder / 'config.json'
    if file.resolve() == target.resolve():
        return
    if target.exists() and read_about(target) == read_about(file):
        return
    if target.exists() or settings.exists():
        raise ValueError(f'{folder} has other weights than {file}: give another --workdir')
    folder.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + '.tmp')
    shutil.copyfile(file, temporary)
    os.replace(temporary, target)
    records.write(settings, read_config(file))


def _parsed(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f'{path} is damaged ({error}). {AGAIN}') from error


def _text(path: Path, name: str) -> str:
    texts = _texts(path, name)
    _verify(path, texts)
    return texts[name]


def _verify(path: Path, texts: Mapping[str, str]) -> None:
    rest = {name: text for name, text in texts.items() if name != CHECKSUM}
    if CHECKSUM in texts and with_checksum(rest) != texts:
        raise ValueError(f'{path} is damaged: the {CHECKSUM} of its texts is another. {AGAIN}')


def _texts(path: Path, name: str) -> dict[str, str]:
    """Return the texts of the file's metadata, which have that name.

    The format is 8 bytes of length, then JSON, then the arrays.
    """
    try:
        with open(path, 'rb') as file:
            length = int.from_bytes(file.read(8), 'little')
            if length > path.stat().st_size:
                raise ValueError('it is no safetensors file')
            texts = json.loads(file.read(length)).get('__metadata__', {})
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f'{path} is damaged ({error}). {AGAIN}') from error
    if not isinstance(texts, dict) or not isinstance(texts.get(name), str):
        raise ValueError(
            f'{path} is no published model: it has no {name}. Give a file of `simpropnet publish`'
        )
    return texts
