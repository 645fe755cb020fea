"""Files of annotations: COCO's JSON, as most tools export it, and labelme's own; other formats are refused."""

import json
import os
from pathlib import Path
from typing import Any

from simpropnet_jax.io import coco, labelme

OTHER_ENDINGS = {
    '.txt': "looks like YOLO's labels",
    '.yaml': "looks like YOLO's list of classes",
    '.yml': "looks like YOLO's list of classes",
    '.xml': "is XML, as CVAT's own format",
    '.zip': 'is an archive',
}
WAY_OUT = {
    '.txt': "convert them to COCO's JSON, for instance with supervision (DetectionDataset: from_yolo, as_coco)",
    '.xml': 'export it as COCO 1.0',
    '.zip': 'unpack it, and give the JSON in it',
}


def is_meant(path: str | os.PathLike) -> bool:
    """Return whether a file is, by its name, one of annotations, and not a mask of pixels."""
    return Path(path).suffix.lower() in ('.json', *OTHER_ENDINGS)


def read(path: str | os.PathLike) -> coco.Annotated:
    """Return the images, categories and annotations of a file; `coco.mask` decodes masks.

    Raises:
      FileNotFoundError, ValueError: there is no such file, it is of another tool's own format, or damaged.
    """
    return _parsed(_json(Path(path)), path)


def read_if_meant(path: str | os.PathLike) -> coco.Annotated | None:
    """Return what a file holds; None if its JSON is not about annotations at all."""
    content = _json(Path(path))
    has = content.keys() if isinstance(content, dict) else set()
    if has & {'annotations', 'shapes'} or _foreign(content):
        return _parsed(content, path)
    return None


def _json(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f'there is no file {path}')
    ending = path.suffix.lower()
    if ending in OTHER_ENDINGS:
        way_out = WAY_OUT.get(ending, WAY_OUT['.txt'])
        raise ValueError(f'{path} {OTHER_ENDINGS[ending]}, which is not read: {way_out}')
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as COCO's JSON ({error})") from error


def _parsed(content: Any, path: str | os.PathLike) -> coco.Annotated:
    if labelme.is_meant(content):
        return labelme.parse(content, path)
    if foreign := _foreign(content):
        raise ValueError(f'{path} is {foreign}')
    return coco.parse(content, path)


def find(given: Path) -> list[Path]:
    """Return a file, or the JSON files in a folder and its subfolders.

    Raises:
      FileNotFoundError, ValueError: there is none.
    """
    if given.is_dir():
        files = sorted(
            path
            for path in given.rglob('*.json')
            if not any(part.startswith('.') for part in path.relative_to(given).parts)
        )
        if not files:
            raise ValueError(f'there are no JSON files in {given}: export the annotations as COCO')
        return files
    if not given.is_file():
        raise FileNotFoundError(f'there is no file {given}')
    return [given]


def _foreign(content: Any) -> str | None:
    """Return what a JSON of another format is, and how to get the right one."""
    if isinstance(content, list):
        first = content[0] if content and isinstance(content[0], dict) else {}
        if 'annotations' in first and 'data' in first:
            return "Label Studio's own JSON: export as COCO"
        if 'image_id' in first and 'category_id' in first:
            return "a list of COCO's results: give the JSON with images, categories and annotations"
        return None
    if not isinstance(content, dict):
        return None
    if 'dm_format_version' in content or {'items', 'categories'} <= content.keys():
        return "Datumaro's own JSON: export as coco_instances"
    if '_via_img_metadata' in content or '_via_settings' in content:
        return "VIA's own project: export as COCO"
    rows = content.get('annotations')
    if isinstance(rows, list) and rows and isinstance(rows[0], dict) and 'segments_info' in rows[0]:
        return "COCO's panoptic JSON: export instances (polygons or run lengths)"
    return None
