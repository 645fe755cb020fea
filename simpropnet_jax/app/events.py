"""What happens when something is dropped, painted, clicked, moved or selected on the page."""

import functools
import html
import logging
import tempfile
from pathlib import Path

import gradio as gr
import numpy as np
from PIL import Image, ImageDraw

from simpropnet_jax.app import layout, outline, uploads
from simpropnet_jax.io import overlay as visualize
from simpropnet_jax.samples import samples

logger = logging.getLogger(__name__)

MARKS = {'corners': 'white', 'inside': visualize.TRUTH, 'outside': visualize.PREDICTION}
"""Colours of what is marked by clicks."""
NOTHING = {
    'paint': 'nothing is painted yet: paint over the object, or draw a box around it',
    'marks': 'no object is cut out yet: mark two corners of a box, or a point on the object',
    'file': 'there is no mask yet: drop the mask of the picture first',
}
"""What is said of an example without a mask, by the way in which it is made."""


def plainly(event):
    """Wrap an event: what goes wrong is said in one sentence, and what the page shows stays as it is."""

    @functools.wraps(event)
    def guarded(*given):
        try:
            return event(*given)
        except (ValueError, OSError, ImportError) as error:
            warn(str(error))
        except Exception as error:
            logger.debug('where it went wrong:', exc_info=True)
            logger.warning('not expected: %s', type(error).__name__)
            warn(f'something went wrong ({type(error).__name__}); the log of the program says more')
        return gr.skip()

    return guarded


def warn(sentence: str) -> None:
    """Say a sentence in the corner of the page. Gradio would show what is HTML in it, such as the name of a file."""
    gr.Warning(html.escape(sentence))


# Examples. What a draft changes: start, picture, draft, editor, clicks, typed, mask.


def draft(session, path):
    """Show a picture to be marked, or an empty place for another if the file is none."""
    try:
        session.set_draft(uploads.read_picture(path))
    except ValueError as error:
        warn(str(error))
        return no_draft(session)
    for note in session.draft.notes:
        warn(f'{session.draft.name} {note}')
    image = session.draft.image
    return (
        gr.update(visible=False),
        gr.skip(),
        gr.update(visible=True, elem_classes=[layout.LOADING]),
        gr.update(value=_paper(image), brush=layout.brush(min(image.shape[:2]))),
        image,
        '',
        None,
    )


def no_draft(session):
    """Show the place for a picture."""
    session.set_draft(None)
    shown, hidden = gr.update(visible=True), gr.update(visible=False)
    return shown, None, hidden, None, None, '', None


def let_paint():
    """Take strokes, as the editor has loaded the picture."""
    return gr.update(elem_classes=[])


def take_way(way, session):
    """Remember in which way the mask is made."""
    session.way = way


def fill(session, paint):
    """Fill the closed outlines that are painted."""
    return _repainted(session, outline.filled(_painted(session, paint)))


def snap(session, paint):
    """Move the outline of what is painted to the edges of the picture."""
    return _repainted(session, outline.snapped(_drafted(session).image, _painted(session, paint)))


def click(session, mode, event: gr.SelectData):
    """Mark a corner of a box, or a point, and cut out the object."""
    point = (int(event.index[0]), int(event.index[1]))
    marks = session.marks
    if mode == 'corner':
        corners = marks.corners if len(marks.corners) == 1 else ()
        return _marked(session, marks._replace(corners=(*corners, point)))
    return _marked(session, marks._replace(**{mode: (*getattr(marks, mode), point)}))


def type_box(session, text):
    """Take a box that is typed, and cut out the object."""
    height, width = _drafted(session).image.shape[:2]
    return _marked(session, outline.Marks(outline.box_of(text, width, height)))


def start_over(session):
    """Forget the marks."""
    session.marks, session.cut = outline.Marks(), None
    return _drafted(session).image


def add(session, picture, mask, paint):
    """Take what is painted, cut out or given as a file as an example."""
    drafted = _drafted(session)
    found = {'paint': _painted(session, paint), 'marks': session.cut}
    ready = [way for way, drawn in found.items() if drawn is not None and drawn.any()]
    ready += ['file'] if mask else []
    way = session.way if session.way in ready or not ready else ready[-1]
    if way == 'file' and ready:
        support = uploads.read_support_files(picture, mask)
    elif ready:
        support = uploads.drawn_support(drafted, found[way])
    else:
        raise ValueError(NOTHING[way])
    _take(session, support)
    return *no_draft(session), *examples(session)


def add_samples(session):
    """Take the first sample as an example, and the others as pictures."""
    example, *others = samples()
    support = uploads.read_support_files(example.image, example.mask)
    _take(session, support)
    for sentence in session.add_queries([one.image for one in others]):
        warn(sentence)
    return examples(session)


def use_result(session, threshold):
    """Take the selected result as an example."""
    _take(session, session.result_as_support(threshold))
    return examples(session)


def choose_example(session, event: gr.SelectData):
    """Remember which example is selected."""
    session.chosen['example'] = event.index


def choose_no_example(session):
    """Forget which example is selected."""
    session.chosen['example'] = None


def remove_example(session):
    """Remove the selected example."""
    if session.chosen['example'] is None:
        raise ValueError('select an example first')
    session.remove_support()
    return examples(session)


def remove_examples(session):
    """Remove all examples."""
    session.set_supports([])
    return examples(session)


def examples(session):
    """Return the gallery of examples, and whether there is anything to remove."""
    shown = [
        (uploads.support_overlay(support), uploads.described(support))
        for support in session.supports
    ]
    return gr.update(value=shown, visible=bool(shown)), gr.update(visible=bool(shown))


def _take(session, support):
    session.set_supports([*session.supports, support])
    for sentence in uploads.oddities(support):
        warn(sentence)


def _drafted(session):
    if session.draft is None:
        raise ValueError('there is no picture to add: drop one first')
    return session.draft


def _painted(session, paint):
    return uploads.painted_mask(_drafted(session), (paint or {}).get('layers') or [])


def _paper(image, mask=None):
    """Return what the editor shows: the picture, and a mask as paint on it."""
    layers = []
    if mask is not None:
        layer = np.zeros((*mask.shape, 4), np.uint8)
        layer[mask] = (*visualize.TRUTH, round(255 * layout.PAINT[1]))
        layers = [layer]
    return {'background': image, 'layers': layers, 'composite': None}


def _repainted(session, mask):
    if not mask.any():
        raise ValueError('nothing is painted yet: paint along the outline of the object')
    return _paper(session.draft.image, mask)


def _marked(session, marks):
    """Return the picture with the marks, and with the object as soon as there are enough."""
    image = _drafted(session).image
    session.marks = marks
    if marks.enough:
        session.cut = outline.cut_out(image, marks)
        image = visualize.overlay(image, session.cut, visualize.TRUTH)
    return _with_marks(image, marks)


def _with_marks(image, marks):
    canvas = Image.fromarray(image)
    draw, size = ImageDraw.Draw(canvas), max(4, min(canvas.size) // 80)
    if len(marks.corners) == 2:
        (left, right), (top, bottom) = (sorted(axis) for axis in zip(*marks.corners, strict=True))
        draw.rectangle((left, top, right, bottom), outline=MARKS['corners'], width=2)
    for kind, colour in MARKS.items():
        for x, y in getattr(marks, kind):
            draw.ellipse((x - size, y - size, x + size, y + size), colour, 'black')
    return np.asarray(canvas)


# Pictures. What changes: said, gallery, download, clear, use, remove.


def add_pictures(session, threshold, paths):
    """Show more pictures; name what cannot be taken. Then there is place to drop others."""
    for sentence in session.add_queries(paths):
        warn(sentence)
    return None, *results(session, threshold)


def choose_picture(session, event: gr.SelectData):
    """Remember which picture is selected, and offer what can be done with it."""
    session.chosen['picture'] = event.index
    return _offered(session)


def choose_no_picture(session):
    """Forget which picture is selected."""
    session.chosen['picture'] = None
    return _offered(session)


def _offered(session):
    number = session.chosen['picture']
    segmented = number is not None and number < len(session.probabilities)
    return gr.update(interactive=segmented), gr.update(interactive=number is not None)


def remove_picture(session, threshold):
    """Remove the selected picture."""
    session.remove_query()
    return results(session, threshold)


def clear_pictures(session, threshold):
    """Remove all pictures."""
    session.clear_queries()
    return results(session, threshold)


def look(session, detail):
    """Look at all pictures in another way; returns the way that is taken."""
    try:
        session.look(detail)
    except ValueError as error:
        warn(str(error))
    return session.detail


def segment(session, threshold, progress=gr.Progress()):  # noqa: B008  Gradio finds it by its default
    """Segment all pictures that have no mask yet."""
    for left in session.segment():
        progress((len(session.queries) - left, len(session.queries)), unit='pictures')
    return results(session, threshold)


def results(session, threshold):
    """Return the next step as a sentence, and the pictures with their masks."""
    said = ''
    if session.queries and not session.supports:
        said = f'{len(session.queries)} of your pictures here: now **add an example** in step 1.'
    elif session.supports and not session.queries:
        said = 'The example is there: now **drop the pictures** in which to find it.'
    return (
        said,
        gr.update(value=session.shown(threshold), visible=bool(session.queries)),
        gr.update(interactive=bool(session.probabilities)),
        gr.update(interactive=bool(session.queries)),
        *_offered(session),
    )


def zipped(session, threshold):
    """Return a file to download; None after an error, so that nobody takes an older file for it."""
    path = Path(tempfile.mkdtemp()) / 'masks.zip'
    try:
        session.write_zip(path, threshold)
    except (ValueError, OSError) as error:
        warn(str(error))
        return None
    return str(path)
