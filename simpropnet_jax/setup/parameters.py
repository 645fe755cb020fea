"""Trainable and frozen parameters, split by path."""

from collections.abc import Sequence

from flax import traverse_util


def split(params: dict, frozen: Sequence[str]) -> tuple[dict, dict]:
    """Split parameters into (trainable, frozen); paths that begin with a prefix, 'a/b' or 'a', are frozen.

    Raises:
      ValueError: no parameter has one of the prefixes.
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
                f'train.frozen names {prefix!r}, but no parameter path begins with it; they begin with {known}'
            )
    trainable = {path: value for path, value in flat.items() if path not in chosen}
    kept = {path: value for path, value in flat.items() if path in chosen}
    return traverse_util.unflatten_dict(trainable, sep='/'), traverse_util.unflatten_dict(
        kept, sep='/'
    )


def merge(params: dict, frozen: dict) -> dict:
    """Undo `split`."""
    flat = traverse_util.flatten_dict(params, sep='/') | traverse_util.flatten_dict(frozen, sep='/')
    return traverse_util.unflatten_dict(flat, sep='/')
