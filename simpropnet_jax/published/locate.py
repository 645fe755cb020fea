"""Find the weights that a user names: a run folder, a published model, a name, or an address.

    find('runs/fold2')                        a run folder, or a folder or file of `simpropnet publish`
    find('simpropnet-voc')                    a name of `table.MODELS`
    find('hf://owner/name@revision')          a published folder on the Hugging Face Hub
    find('https://host/x.safetensors#sha256=...')

Downloads are kept in SIMPROPNET_CACHE (by default ~/.cache/simpropnet_jax); then they need no network.
"""

import difflib
import os
import re
import urllib.parse
from pathlib import Path

from simpropnet_jax.published import header, table
from simpropnet_jax.runtime import paths
from simpropnet_jax.runtime.paths import AnyPath

WHICH = ('best', 'latest')
HUB = 'hf://'
WEB = ('https://', 'http://')
HUB_FORM = re.compile(r'hf://(?P<owner>[\w.-]+)/(?P<name>[\w.-]+)(?:@(?P<revision>[\w./-]+))?')
WEB_FORM = re.compile(r'(?P<url>https?://[^#]+)#sha256=(?P<sha256>[0-9a-f]{64})')


def split(text: str) -> tuple[str, str]:
    """Split RUN@WHICH into the run and the checkpoint: 'best', 'latest' or a step.

    Raises:
      ValueError: another word stands after the @.
    """
    if is_address(text):
        return text, 'best'
    name, at, which = text.rpartition('@')
    if at and (which in WHICH or which.isdecimal()):
        return name, which
    if at and '/' not in which and not paths.parse(text).exists():
        raise ValueError(f'after {name}@ must come best, latest or a step, got {which!r}')
    return text, 'best'


def is_address(text: str | os.PathLike) -> bool:
    """Whether it names a model that may have to be downloaded."""
    return os.fspath(text).startswith((HUB, *WEB))


def find(text: str | os.PathLike | None) -> AnyPath:
    """Return the folder or file that has the weights; a model that is not on this machine is downloaded.

    A folder of a model's name comes first. A path that does not exist is returned as it is.

    Args:
      text: run folder, published folder or file, name, or address; None: the bundled model.
    Raises:
      ValueError: an address is not complete, or a name is not known.
      OSError: a download failed; re-run to resume it.
      ImportError: hf:// needs huggingface_hub.
    """
    if text is None:
        return _by_name(table.DEFAULT)
    text = os.fspath(text)
    if text.startswith(HUB):
        return _from_hub(text)
    if text.startswith(WEB):
        return _from_web(text)
    path = paths.parse(text)
    if text in table.MODELS and not path.exists():
        return _by_name(text)
    if not paths.is_url(path) and path.name == text and not path.exists():
        near = difflib.get_close_matches(text, table.MODELS, 1)
        if near:
            raise ValueError(f'there is no run folder or model {text!r}. Did you mean {near[0]}?')
    return path


def describe(place: AnyPath) -> str:
    """Return one line about a published model: its name, its method, and what it was trained on."""
    file = header.of(place)
    about = header.read_about(file)
    whose = "the package's model " if file.parent == table.FOLDER else ''
    return f'{whose}{about["name"]}, {about["summary"]}'


def _by_name(name: str) -> AnyPath:
    source = table.MODELS[name]
    if source != table.BUNDLED:
        return find(source)
    file = table.FOLDER / f'{name}{header.ENDING}'
    if not file.is_file():
        raise FileNotFoundError(
            f'the model {name} is missing from this installation ({file}). Install the package again, or give '
            '--checkpoint RUN'
        )
    return file


def _cache() -> Path:
    return paths.cache() / 'models'


def _from_web(text: str) -> Path:
    parts = WEB_FORM.fullmatch(text)
    if not parts:
        raise ValueError(
            f'{text} must end in #sha256= and 64 hexadecimal digits, which `sha256sum FILE` prints'
        )
    name = Path(urllib.parse.unquote(urllib.parse.urlsplit(parts['url']).path)).name
    if not name.endswith(header.ENDING):
        raise ValueError(
            f'{text} must name a {header.ENDING} file, as `simpropnet publish` writes it'
        )
    from simpropnet_jax.runtime import download

    remote = download.Remote(name, (parts['url'],), sha256=parts['sha256'])
    return download.fetch(remote, _cache() / parts['sha256'][:16])


def _from_hub(text: str) -> Path:
    parts = HUB_FORM.fullmatch(text)
    if not parts:
        raise ValueError(f'{text} must have the form hf://owner/name@revision')
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(
            f"{text} needs huggingface_hub, which is not installed: pip install 'simpropnet-jax[hub]'"
        ) from error
    where = {
        'repo_id': f'{parts["owner"]}/{parts["name"]}',
        'filename': header.NAME,
        'revision': parts['revision'],
        'cache_dir': _cache() / 'hub',
    }
    if parts['revision']:  # a revision that is there already needs no network
        kept = huggingface_hub.try_to_load_from_cache(**where)
        if isinstance(kept, str):
            return Path(kept)
    try:
        endpoint = os.environ.get('HF_ENDPOINT')  # a mirror; None: the Hub
        return Path(huggingface_hub.hf_hub_download(**where, endpoint=endpoint))
    except Exception as error:  # the library and its HTTP client raise many types
        reason = ' '.join(str(error).split())[:300] or type(error).__name__
        raise OSError(
            f'{text} could not be downloaded ({reason}). Re-run the same command to resume'
        ) from error
