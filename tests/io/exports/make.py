"""Makes the exports in this folder with the tools themselves; see README.md. Needs none of this project's packages.

    pip install labelme==6.3.1 supervision==0.31.2 datumaro==1.13.12 label-studio-sdk==2.1.2
    python tests/io/exports/make.py

CVAT and Roboflow are no packages: their files here are written by hand in their documented format.
"""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
WIDTH, HEIGHT = 64, 48
POLYGON = [[10, 8], [40, 8], [40, 30], [10, 30]]
RING = np.zeros((HEIGHT, WIDTH), bool)  # a square with a hole
RING[10:40, 30:60], RING[20:30, 40:50] = True, False


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    Image.fromarray(np.dstack([rows * 5, columns * 3, rows + columns]).astype(np.uint8)).save(path)
    return path


def labelme(folder: Path) -> None:
    """One file a picture: a polygon, a box, a circle, a brush mask, and a line, which has no area."""
    from labelme._label_file import LabelFile
    from labelme.utils import img_arr_to_b64

    common = {'group_id': None, 'description': '', 'flags': {}}
    y, x = np.argwhere(RING).min(0)
    bottom, right = np.argwhere(RING).max(0)
    brush = img_arr_to_b64(RING[y : bottom + 1, x : right + 1].astype(np.uint8))
    shapes = [
        ('cat', 'polygon', POLYGON, None),
        ('dog', 'rectangle', [[2, 34], [12, 44]], None),
        ('dog', 'circle', [[20, 38], [26, 38]], None),
        ('cup', 'mask', [[float(x), float(y)], [float(right), float(bottom)]], brush),
        ('cat', 'line', [[1, 1], [5, 5]], None),
    ]
    rows = [
        {'label': label, 'shape_type': kind, 'points': points, 'mask': mask, **common}
        for label, kind, points, mask in shapes
    ]
    image = picture(folder / 'cat one.png')
    LabelFile().save(
        str(folder / 'cat one.json'), rows, image.name, HEIGHT, WIDTH, image.read_bytes(), {}, {}
    )


def supervision(folder: Path) -> None:
    """A polygon, and a mask with a hole, which becomes RLE with iscrowd 1."""
    import supervision as sv

    polygon = np.zeros((HEIGHT, WIDTH), bool)
    polygon[8:30, 10:40] = True
    image = picture(folder / 'a b.png')
    found = sv.Detections(
        xyxy=np.array([[10, 8, 39, 29], [30, 10, 59, 39]], float),
        mask=np.stack([polygon, RING]),
        class_id=np.array([0, 1]),
    )
    data = sv.DetectionDataset(['cat', 'cup'], [str(image)], {str(image): found})
    data.as_coco(annotations_path=str(folder / 'a.json'))
    data.as_yolo(annotations_directory_path=str(folder / 'yolo'), data_yaml_path=None)


def datumaro(folder: Path) -> None:
    """A polygon and a brush mask in the subset `train`: COCO, and Datumaro's own format."""
    import datumaro as dm
    from datumaro.components.media import Image as Media

    image = picture(Path(tempfile.mkdtemp()) / 'a b.png')
    marks = [
        dm.Polygon([float(v) for point in POLYGON for v in point], label=0, id=1, group=1),
        dm.Mask(RING, label=1, id=2, group=2),
    ]
    item = dm.DatasetItem(
        'pets/a b', subset='train', media=Media.from_file(str(image)), annotations=marks
    )
    data = dm.Dataset.from_iterable([item], categories=['cat', 'cup'])
    data.export(str(folder / 'coco'), 'coco_instances')
    data.export(str(folder / 'own'), 'datumaro')


def label_studio(folder: Path) -> None:
    """Uploaded, local and cloud pictures with polygons, a box and a brush mask."""
    from label_studio_sdk.converter import Converter
    from label_studio_sdk.converter.brush import mask2rle

    def marked(kind, label, value):
        size = {'original_width': WIDTH, 'original_height': HEIGHT, 'image_rotation': 0}
        whole = {'value': {**value, kind: [label]}, **size}
        return whole | {'id': 'x', 'from_name': kind, 'to_name': 'image', 'type': kind}

    percent = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in POLYGON]
    box = {'x': 10, 'y': 10, 'width': 30, 'height': 30, 'rotation': 0}
    brush = {'format': 'rle', 'rle': mask2rle((RING * 255).astype(np.uint8))}
    names = (
        '/data/upload/4/cb0618f6-my%20photo.png',
        '/data/local-files/?d=photos/sub/street.png',
        's3://bucket/dir/sky.png',
    )
    tasks = [
        {
            'id': number,
            'data': {'image': name},
            'annotations': [
                {
                    'id': number,
                    'result': [
                        marked('polygonlabels', 'cat', {'points': percent, 'closed': True}),
                        marked('rectanglelabels', 'dog', box),
                    ],
                }
            ],
        }
        for number, name in enumerate(names, 1)
    ]
    brushed = json.loads(json.dumps(tasks[:1]))
    brushed[0]['annotations'][0]['result'].append(marked('brushlabels', 'cup', brush))
    tags = ''.join(
        f'<{tag} name="{tag.lower()}" toName="image"><Label value="{label}"/></{tag}>'
        for tag, label in (
            ('PolygonLabels', 'cat'),
            ('RectangleLabels', 'dog'),
            ('BrushLabels', 'cup'),
        )
    )
    config = f'<View><Image name="image" value="$image"/>{tags}</View>'
    converter = Converter(config, None, download_resources=False)
    for name, content, kind in (
        ('tasks', tasks, 'COCO'),
        ('brush_tasks', brushed, 'BRUSH_TO_COCO'),
    ):
        path = folder / f'{name}.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        converter.convert(str(path), str(folder / kind.lower()), kind, is_dir=False)


def main() -> None:
    for make in (labelme, supervision, datumaro, label_studio):
        folder = HERE / make.__name__
        shutil.rmtree(folder, ignore_errors=True)
        try:
            make(folder)
        except ImportError as error:
            print(f'{make.__name__}: {error}')


if __name__ == '__main__':
    main()
