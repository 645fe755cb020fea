"""One picture in every mode that a file may have, and every kind of mask."""

import re
import warnings

import numpy as np
import pytest
from PIL import Image, ImageOps

from simpropnet_jax.io import formats, images, opening
from simpropnet_jax.io.images import mask_label, pictures_in, read_image, read_mask, read_picture
from simpropnet_jax.io.masks import MaskOptions, describe_mask, oddities

RAMP = (np.arange(48).reshape(6, 8) * 5).astype(np.uint8)  # 0 to 235
GRAY = np.repeat(RAMP[..., None], 3, -1)
RGB = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], -1)
LEFT = np.arange(8) < 4  # transparent where the test says so
ON_WHITE = np.where(LEFT[None, :, None], 255, RGB).astype(np.uint8)
ALPHA = np.where(LEFT, 0, 255).astype(np.uint8) * np.ones((6, 1), np.uint8)


def palette_picture(**changes):
    """Index i is the gray 5 i."""
    image = Image.frombytes('P', (8, 6), (RAMP // 5).tobytes())
    image.putpalette([5 * i for i in range(51) for _ in range(3)])
    image.info.update(changes)
    return image


def big_endian(pixels):
    return Image.frombytes(
        'I;16B', (8, 6), (pixels.astype(np.uint16) * 257).astype('>u2').tobytes()
    )


def with_alpha(pixels):
    return Image.fromarray(np.concatenate([pixels, ALPHA[..., None]], -1))


MODES = {
    '1': ('png', lambda: Image.fromarray(RAMP > 99), np.where(GRAY > 99, 255, 0)),
    'L': ('png', lambda: Image.fromarray(RAMP), GRAY),
    'LA': ('png', lambda: with_alpha(RAMP[..., None]), np.where(LEFT[:, None], 255, GRAY)),
    'P': ('png', palette_picture, GRAY),
    'P with a transparent index': (
        'png',
        lambda: palette_picture(transparency=0),
        np.where(GRAY == 0, 255, GRAY),
    ),
    'RGB': ('png', lambda: Image.fromarray(RGB), RGB),
    'RGBA': ('png', lambda: with_alpha(RGB), ON_WHITE),
    'CMYK': ('tif', lambda: Image.fromarray(RGB).convert('CMYK'), RGB),
    'I;16': ('png', lambda: Image.fromarray(RAMP.astype(np.uint16) * 257), GRAY),
    'I;16B': ('tif', lambda: big_endian(RAMP), GRAY),
    'I of 8 bits': ('tif', lambda: Image.fromarray(RAMP.astype(np.int32)), GRAY),
    'I of 16 bits': ('tif', lambda: Image.fromarray(RAMP.astype(np.int32) * 257), GRAY),
    'F from 0 to 1': ('tif', lambda: Image.fromarray(RAMP.astype(np.float32) / 255), GRAY),
    'F from 0 to 255': ('tif', lambda: Image.fromarray(RAMP.astype(np.float32)), GRAY),
}


@pytest.mark.parametrize('mode', MODES)
def test_a_picture_reads_the_same_in_every_mode(mode, tmp_path):
    ending, make, expected = MODES[mode]
    image = make()
    assert image.mode == mode.split()[0]
    image.save(
        tmp_path / f'x.{ending}', **({'transparency': 0} if 'transparency' in image.info else {})
    )
    np.testing.assert_array_equal(read_image(tmp_path / f'x.{ending}'), expected)


def test_a_picture_is_turned_as_its_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown a quarter turn clockwise
    Image.fromarray(RGB).save(tmp_path / 'turned.png', exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / 'turned.png'), np.rot90(RGB, -1))


@pytest.mark.parametrize('ending', ['jpg', 'png', 'tif'])
def test_all_turns_and_reduced_while_reading(ending, tmp_path):
    pixels, path, exif = (
        np.repeat(np.repeat(RGB, 12, 0), 12, 1),
        tmp_path / f'x.{ending}',
        Image.Exif(),
    )
    for orientation in range(1, 9):
        exif[0x0112] = orientation
        Image.fromarray(pixels).save(path, exif=exif)
        shown = ImageOps.exif_transpose(Image.open(path))
        np.testing.assert_array_equal(read_image(path), shown)
        small = read_picture(path, side=30)
        assert small.size == shown.size[::-1] and small.pixels.shape[:2] < small.size
        near = shown.resize(small.pixels.shape[1::-1], Image.BOX)
        assert np.abs(small.pixels.astype(int) - np.asarray(near)).mean() < 3
        Image.fromarray(OBJECT).save(path.with_suffix('.png'), exif=exif)
        np.testing.assert_array_equal(
            read_mask(path.with_suffix('.png')),
            ImageOps.exif_transpose(Image.open(path.with_suffix('.png'))),
        )


NOISE = np.asarray(Image.fromarray(RGB).resize((160, 120)))
STRETCH = 'its used range is stretched to 8 bits'
OME = '<OME><Pixels SizeC="2" SizeT="1" SizeZ="3"><Channel Name="DAPI"/><Channel Name="GFP"/></Pixels></OME>'
NOTED = {  # the picture, how it is saved, what is said, and what is read
    '12 bits': (NOISE[..., 0] * np.uint16(16), {}, STRETCH, NOISE[..., [0] * 3]),
    'signed': (
        NOISE[..., 0] * np.int32(9) - 999,
        {},
        STRETCH,
        NOISE[..., [0] * 3],
    ),
    'floats': (NOISE[..., 0] * np.float32(90), {}, f'from 0 to .*: {STRETCH}', NOISE[..., [0] * 3]),
    'NaN': (
        np.where(NOISE[..., 0], NOISE[..., 0] * 3.0, np.nan).astype(np.float32),
        {},
        STRETCH,
        None,
    ),
    'near infrared': (
        np.dstack([NOISE, np.roll(NOISE[..., 0], 9, 0)]),
        {},
        'a fourth band that does not look like transparency',
        NOISE,
    ),
    'a stack': (
        NOISE,
        {'save_all': True, 'append_images': [Image.fromarray(NOISE)], 'description': OME},
        r'has 2 planes \(C=2 Z=3; DAPI, GFP\): the first is read',
        NOISE,
    ),
}


@pytest.mark.parametrize('kind', NOTED)
def test_what_is_stretched_or_left_out_is_said_once(kind, tmp_path, caplog):
    values, how, said, expected = NOTED[kind]
    images._said.clear()
    for name in ('a.tif', 'b.tif'):
        Image.fromarray(values).save(tmp_path / name, **how)
        reading = read_picture(tmp_path / name)
    assert re.search(said, caplog.text) and caplog.text.count('said once') == 1
    assert len(reading.notes) == 1 and re.search(said, reading.notes[0])
    if expected is not None:
        low, high = (expected.min(), expected.max()) if STRETCH in said else (0, 255)
        full = (expected - float(low)) * (255 / (high - low))
        assert np.abs(reading.pixels - full).max() < 3


@pytest.mark.parametrize('name', ['x.png', 'x.tif', 'raw.tif'])
def test_twelve_bits_in_colour(name, tmp_path):
    cv2 = pytest.importorskip('cv2')
    deep = NOISE.astype(np.uint16) * 17
    flags = [cv2.IMWRITE_TIFF_COMPRESSION, 1] if name == 'raw.tif' else []
    for picture in (deep, np.dstack([deep, np.full_like(deep[..., :1], 65535)])):
        cv2.imwrite(str(tmp_path / name), picture, flags)
        reading = read_picture(tmp_path / name)
        assert np.abs(reading.pixels[..., ::-1] * (NOISE.max() / 255) - NOISE).max() < 1.5
        assert 'used range' in reading.notes[0]


def test_a_whole_png_with_damaged_exif_is_read(tmp_path):
    Image.fromarray(RGB).save(tmp_path / 'x.png', exif=b'Exif\0\0broken!!')
    reading = read_picture(tmp_path / 'x.png')
    np.testing.assert_array_equal(reading.pixels, RGB)
    assert reading.notes == ['has damaged EXIF data, which are ignored']


def test_pictures_of_phones_need_an_extra_and_other_tiffs_are_named(tmp_path, monkeypatch):
    heif = pytest.importorskip('pillow_heif')
    heif.from_pillow(Image.fromarray(NOISE)).save(tmp_path / 'x.heic', quality=100)
    assert np.abs(read_image(tmp_path / 'x.heic').astype(int) - NOISE).mean() < 9
    monkeypatch.setattr(formats, 'pictures', lambda: formats.STORED)
    with pytest.raises(ValueError, match=r"x.heic is HEIC.*pip install 'simpropnet-jax\[heic\]'"):
        read_image(tmp_path / 'x.heic')
    Image.fromarray(RGB).save(tmp_path / 'x.tif')
    with pytest.raises(ValueError, match='x.tif is a TIFF of a kind that is not read: save it'):
        read_image(tmp_path / 'x.tif')


def test_the_first_frame_of_an_animation_counts(tmp_path):
    first, second = Image.fromarray(GRAY), Image.fromarray(255 - GRAY)
    first.save(tmp_path / 'x.gif', save_all=True, append_images=[second])
    np.testing.assert_array_equal(read_image(tmp_path / 'x.gif'), GRAY)
    first.save(tmp_path / 'x.webp', save_all=True, append_images=[second], lossless=True)
    np.testing.assert_array_equal(read_image(tmp_path / 'x.webp'), GRAY)


def test_what_cannot_be_read_is_named_in_one_sentence(tmp_path):
    (tmp_path / 'text.jpg').write_text('no picture')
    Image.fromarray(np.repeat(np.repeat(RGB, 30, 0), 30, 1)).save(tmp_path / 'cut.jpg')
    (tmp_path / 'cut.jpg').write_bytes((tmp_path / 'cut.jpg').read_bytes()[:-900])
    (tmp_path / 'link.jpg').symlink_to('gone.jpg')
    for name, error, sentence in (
        ('none.jpg', FileNotFoundError, 'there is no file .*none.jpg'),
        ('', ValueError, 'is a folder, not a picture'),
        ('text.jpg', ValueError, 'text.jpg is not a picture of any known format'),
        ('cut.jpg', ValueError, 'cut.jpg cannot be read as a picture: .*truncated'),
        ('link.jpg', FileNotFoundError, 'link.jpg is a link to gone.jpg, which does not exist'),
    ):
        with pytest.raises(error, match=sentence):
            read_image(tmp_path / name)


def test_a_picture_of_up_to_200_million_pixels_is_opened(tmp_path):
    """Pillow itself refuses more than 179 million."""
    path = tmp_path / 'large.pbm'
    path.write_bytes(b'P4 14000 14000\n')
    with warnings.catch_warnings(action='error'), opening.checked(path) as image:
        assert image.size == (14_000, 14_000)
    path.write_bytes(b'P4 14000 15000\n')
    with pytest.raises(opening.TooLargeError, match='14000 x 15000 pixels, more than 200 million'):
        opening.checked(path)


OBJECT, EDGE = np.zeros((6, 8), bool), np.zeros((6, 8), bool)
OBJECT[1:4, 2:5], EDGE[4, 2:5] = True, True


def filled(background, foreground, edge):
    """A mask: void (or more foreground) is a line below the object."""
    return np.select([OBJECT, EDGE], [foreground, edge], background).astype(np.uint8)


def indexed(values):
    image = Image.frombytes('P', (8, 6), values.tobytes())
    image.putpalette([*range(256)] * 3)
    return image


PLAIN, BOTH, WITH_VOID = filled(0, 1, 0), filled(0, 1, 1), filled(0, 1, 255)
MASKS = {
    'black and white': (lambda: Image.fromarray(OBJECT), PLAIN),
    'gray of 0 and 255': (lambda: Image.fromarray(filled(0, 255, 255)), BOTH),
    'gray of 0 and 1': (lambda: Image.fromarray(filled(0, 1, 0)), PLAIN),
    'gray with a class and void': (lambda: Image.fromarray(filled(0, 15, 255)), WITH_VOID),
    '16 bits': (lambda: Image.fromarray(filled(0, 1, 1).astype(np.uint16) * 65535), BOTH),
    'a VOC palette': (lambda: indexed(filled(0, 15, 255)), WITH_VOID),
    'a palette of two classes': (lambda: indexed(filled(0, 15, 3)), BOTH),
    'alpha': (lambda: Image.fromarray(np.dstack([RGB, filled(0, 255, 1)])), PLAIN),
    'one alpha, colours': (
        lambda: Image.fromarray(np.dstack([filled(0, 9, 0)] * 3 + [filled(255, 255, 255)])),
        PLAIN,
    ),
    'one alpha, gray': (
        lambda: Image.fromarray(np.dstack([filled(0, 15, 255), filled(255, 255, 255)])),
        WITH_VOID,
    ),
    'colours': (
        lambda: Image.fromarray(np.dstack([filled(0, 0, 7), filled(0, 9, 0), filled(0, 0, 0)])),
        BOTH,
    ),
}


@pytest.mark.parametrize('kind', MASKS)
def test_a_mask_of_every_kind(kind, tmp_path):
    make, expected = MASKS[kind]
    make().save(tmp_path / 'mask.png')
    np.testing.assert_array_equal(read_mask(tmp_path / 'mask.png'), expected)


def test_a_palette_mask_that_looks_inverted_is_refused(tmp_path):
    for zero, one, values in (
        (255, 0, filled(0, 1, 1)),
        (255, 0, filled(1, 0, 0)),
        (0, 255, filled(0, 1, 1)),
    ):
        mask = indexed(values)
        mask.putpalette([zero] * 3 + [one] * 3)
        mask.save(tmp_path / 'mask.png')
        if zero:
            with pytest.raises(
                ValueError,
                match=r'mask.png has a palette in which 0, .* the colour \(255, 255, 255\)',
            ):
                read_mask(tmp_path / 'mask.png')
        else:
            np.testing.assert_array_equal(read_mask(tmp_path / 'mask.png'), BOTH)


def test_a_colour_mask_in_cmyk_has_a_black_background(tmp_path):
    Image.fromarray(np.dstack([filled(0, 255, 255)] * 3)).convert('CMYK').save(
        tmp_path / 'mask.tif'
    )
    np.testing.assert_array_equal(read_mask(tmp_path / 'mask.tif'), BOTH)


def test_shades_of_gray_are_refused_because_255_would_be_void(tmp_path):
    soft = Image.fromarray(filled(0, 255, 255)).resize((80, 60), Image.BILINEAR)
    soft.save(tmp_path / 'soft.png')
    with pytest.raises(
        ValueError, match='soft.png has shades of gray .* Save it with two values, 0 and 255'
    ):
        read_mask(tmp_path / 'soft.png')


def test_a_label_stays_what_it_is():
    np.testing.assert_array_equal(mask_label(WITH_VOID), WITH_VOID)
    np.testing.assert_array_equal(mask_label(OBJECT), PLAIN)


TALL, WIDE = 96, 128
ROWS, COLUMNS = np.mgrid[:TALL, :WIDE]
DISTANCE = np.hypot(ROWS - 48, COLUMNS - 60)
DISK = DISTANCE < 25
SOFT = np.clip((27 - DISTANCE) * 255 / 6, 0, 255).astype(np.uint8)
TRIMAP = np.select([DISTANCE < 23, DISTANCE < 27], [255, 128], 0).astype(np.uint8)
HALVED = np.asarray(
    Image.fromarray(DISK.astype(np.uint8) * 255).resize((WIDE // 2, TALL // 2), Image.BOX)
)
PHOTO = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
PHOTO = np.asarray(Image.fromarray(PHOTO).resize((WIDE, TALL), Image.BICUBIC))
ALPHA_NOISE = np.where(DISK, 255, np.random.default_rng(0).integers(0, 3, DISK.shape))
CELLS = np.where((ROWS % 8 < 6) & (COLUMNS % 8 < 6), ROWS // 8 * 16 + COLUMNS // 8 + 1, 0) * 5


def colour(gray):
    return np.dstack([gray] * 3)


def in_red(gray):
    return np.dstack([gray, gray * 0, gray * 0])


def gray_palette(gray):
    """With the colours in another order than the indices."""
    image = Image.fromarray(255 - gray).convert('P')
    image.putpalette([255 - i for i in range(256) for _ in range(3)])
    return image


UNCLEAR = {  # how it is saved, and what is said
    'trimap': (TRIMAP, r'shades of gray \(0, 128, 255\).*--mask_threshold 128 .*--mask_value 255'),
    'trimap in colour': (colour(TRIMAP), r'shades of gray \(0, 128, 255\)'),
    'trimap in red': (in_red(TRIMAP), r'shades of gray \(0, 128, 255\)'),
    'trimap in a palette': (gray_palette(TRIMAP), r'shades of gray \(0, 128, 255\)'),
    'trimap of 16 bits': (TRIMAP.astype(np.uint16) * 257, r'\(0, 32896, 65535\).*threshold 32768'),
    'trimap of floats': (TRIMAP.astype(np.float32), r'shades of gray \(0, 128, 255\)'),
    'trimap of 0, 127, 254': (TRIMAP // 2 * 2 - (TRIMAP == 128), r'\(0, 127, 254\)'),
    'halved': (HALVED, r'shades of gray \(0, 64, .*255\)'),
    'soft': (SOFT, 'shades of gray .*values'),
    'soft in colour': (colour(SOFT), 'shades of gray .*values'),
    'soft in a palette': (gray_palette(SOFT), 'shades of gray .*values'),
    'soft below 200': ((SOFT * 0.7).astype(np.uint8), 'shades of gray .*values'),
    'soft alpha': (np.dstack([colour(SOFT), COLUMNS.astype(np.uint8)]), 'half transparent'),
    'photograph': (PHOTO, 'colours, as a photograph'),
    'gray photograph': (PHOTO[..., 0], 'shades of gray .*values'),
    'dark photograph': (PHOTO[..., 0] // 3, 'shades of gray .*values'),
    'photograph in a palette': (Image.fromarray(PHOTO).quantize(64), 'as a photograph'),
    'photograph of 16 bits': (PHOTO[..., 0].astype(np.uint16) * 150, 'shades of gray'),
    'probabilities': (SOFT / np.float32(255), 'fractions .*--mask_threshold 0.5'),
    'logits': (20 - DISTANCE.astype(np.float32), 'fractions .*--mask_threshold'),
    'ids without 0': (DISK + np.uint8(1), r'values 1, 2 and no 0.*--mask_value 1'),
    'colours without black': (
        np.where(DISK[..., None], [255, 0, 0], 200),
        '2 colours and no black',
    ),
}


def save(values, tmp_path):
    if isinstance(values, np.ndarray):
        values = Image.fromarray(values.astype(np.uint8) if values.ndim == 3 else values)
    image = values
    path = tmp_path / f'mask.{"tif" if image.mode == "F" else "png"}'
    image.save(path)
    return path


@pytest.mark.parametrize('kind', UNCLEAR)
def test_a_mask_with_several_readings_is_refused_with_its_values_and_the_option(kind, tmp_path):
    values, sentence = UNCLEAR[kind]
    with pytest.raises(ValueError, match=f'mask.... has .*{sentence}'):
        read_mask(save(values, tmp_path))


@pytest.mark.parametrize('kind', ['trimap', 'trimap in colour', 'soft in colour', 'soft alpha'])
def test_a_threshold_reads_every_kind(kind, tmp_path):
    values = UNCLEAR[kind][0]
    label = read_mask(save(values, tmp_path), MaskOptions(mask_threshold=128))
    np.testing.assert_array_equal(label, (values[..., -1] if values.ndim == 3 else values) >= 128)


def test_a_halved_mask_keeps_its_area_with_a_threshold():
    label = mask_label(HALVED, options=MaskOptions(mask_threshold=128))
    assert abs(label.mean() - DISK.mean()) < 0.005


CLEAR = {
    'cut-out with noise in alpha': (np.dstack([PHOTO, ALPHA_NOISE]), DISK),
    'NaN outside': (np.where(DISK, 1, np.nan).astype(np.float32), DISK),
    '-1 outside': (np.where(DISK, 1, -1).astype(np.float32), DISK),
    '945 cells and more': (CELLS.astype(np.uint16), CELLS > 0),
    '200 cells': (CELLS.astype(np.uint16) // 5, CELLS > 0),
    'ids up to 40 and void': (np.where(DISTANCE < 30, DISK * 40, 255).astype(np.uint8), None),
    'black on white': (np.where(DISK, 0, 255).astype(np.uint8), ~DISK),
}


@pytest.mark.parametrize('kind', CLEAR)
def test_a_mask_with_one_reading(kind, tmp_path):
    values, expected = CLEAR[kind]
    expected = np.where(DISTANCE < 30, DISK, 255) if expected is None else expected
    np.testing.assert_array_equal(read_mask(save(values, tmp_path)), expected)
    if values.ndim == 2:
        np.testing.assert_array_equal(mask_label(values), expected)


def test_one_class_of_an_index_mask(tmp_path):
    classes = filled(0, 8, 255)
    classes[0] = 15
    path = tmp_path / 'voc.png'
    indexed(classes).save(path)
    np.testing.assert_array_equal(read_mask(f'{path}#8'), WITH_VOID)
    np.testing.assert_array_equal(read_mask(path, MaskOptions(mask_value=8)), WITH_VOID)
    with pytest.raises(ValueError, match='has no pixel of value 3; it has 0, 8, 15, 255'):
        read_mask(f'{path}#3')
    with pytest.raises(ValueError, match='leave out --mask_value'):
        read_mask(f'{path}#8', MaskOptions(mask_value=8))
    (tmp_path / 'odd#8').write_bytes(path.read_bytes())
    assert read_mask(tmp_path / 'odd#8').any()
    with pytest.raises(ValueError, match='either --mask_value or --mask_threshold'):
        read_mask(path, MaskOptions(1, 1))


def test_inverted_masks(tmp_path):
    path = save(np.where(DISK, 0, 255).astype(np.uint8), tmp_path)
    np.testing.assert_array_equal(read_mask(path, MaskOptions(invert=True)), DISK)
    white_on_black = Image.fromarray(DISK.astype(np.uint8) ^ 1).convert('P')
    white_on_black.putpalette([0, 0, 0, 255, 255, 255])
    white_on_black.save(path)
    np.testing.assert_array_equal(read_mask(path, MaskOptions(invert=True)), DISK)
    nan = np.where(DISK, 0, np.nan).astype(np.float32)
    np.testing.assert_array_equal(mask_label(nan, options=MaskOptions(invert=True)), DISK)


def test_arrays_of_every_kind_are_one_label():
    for values in (DISK, DISK[..., None], DISK.astype(np.uint8), DISK * 255, DISK.astype(float)):
        np.testing.assert_array_equal(mask_label(values), DISK)
    with pytest.raises(ValueError, match=r'shape \[H, W\] or \[H, W, 1\], got \[2, 3, 2\]'):
        mask_label(np.zeros((2, 3, 2)))
    with pytest.raises(ValueError, match='must hold bool or numbers, got <U1'):
        mask_label(np.full((2, 2), 'a'))


def test_a_label_is_described_and_what_is_odd_is_named():
    label = np.zeros((10, 10), np.uint8)
    label[2:5, 2:7], label[5:6, 2:4] = 1, 255
    assert describe_mask(label, 'cat1.jpg') == 'cat1.jpg: object 15.0 %, void 2.0 %'
    assert oddities(label) == []
    assert oddities(np.where(label == 0, 255, label)) == ['void is larger than the object']
    (phrase,) = oddities(np.where(label == 1, 0, 1).astype(np.uint8)[:, :-1])
    assert 'the whole border; is it the background? --invert' in phrase
    assert oddities(np.ones((9, 9), np.uint8))[0] == 'the object covers nearly the whole picture'


def test_pictures_of_a_folder(tmp_path):
    for name in ('b.JPG', 'a.png', 'notes.txt', '._a.png', 'deeper/c.png'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in pictures_in(tmp_path)] == ['a.png', 'b.JPG']
    (tmp_path / 'none').mkdir()
    with pytest.raises(
        ValueError, match='there are no pictures in .*none: no file there ends in .avif, '
    ):
        pictures_in(tmp_path / 'none')
