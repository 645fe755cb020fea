"""Trainable and frozen parameters, split by path."""

from collections.abc import Sequence

from flax import traverse_util


def split(params: dict, frozen: Sequence[str]) -> tuple[dict, dict]:
    """Parameters (trainable, frozen): frozen is every path that begins with one of the prefixes, 'a/b' or 'a'.

    Raises:
      ValueError: a prefix that no parameter has.
    """
    flat = traverse_util.flatten_dict(params, sep='/')
    chosen = {
        path
        for path in flat
        for prefix in frozen
        if f'{path}/'.startswith(f'{prefix.rstrip("/")}/')
    }
    for prefix in frozen:
        if not any(f'{path}/'.startswith(f'{prefix.rstrip("/")}/') for path in chosen):
            known = ', '.join(sorted({path.split('/')[0] for path in flat}))
            raise ValueError(
                f'train.frozen names {prefix!r}, but no parameter path begins so; they begin with {known}'
            )
    trainable = {path: value for path, value in flat.items() if path not in chosen}
    kept = {path: value for path, value in flat.items() if path in chosen}
    return traverse_util.unflatten_dict(trainable, sep='/'), traverse_util.unflatten_dict(
        kept, sep='/'
    )


def merge(params: dict, frozen: dict) -> dict:
    """The inverse of `split`."""
    flat = traverse_util.flatten_dict(params, sep='/') | traverse_util.flatten_dict(frozen, sep='/')
    return traverse_util.unflatten_dict(flat, sep='/')
