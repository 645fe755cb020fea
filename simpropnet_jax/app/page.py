"""The page: what is on it, and which event follows what."""

import functools

import gradio as gr

from simpropnet_jax.app import events, layout
from simpropnet_jax.app.events import plainly
from simpropnet_jax.app.session import Session
from simpropnet_jax.inference import Segmenter

STATE_KEPT = 3600  # seconds that a closed page's pictures are kept


def build(segmenter: Segmenter, about: str = '') -> gr.Blocks:
    """Build the page around a trained method, which all users share; each has a `Session`.

    Args:
      segmenter: the method.
      about: a sentence on what it was trained on.
    """
    with gr.Blocks(
        title='Few-shot segmentation', analytics_enabled=False, delete_cache=(600, STATE_KEPT)
    ) as page:
        session = gr.State(_NewSession(segmenter))
        gr.Markdown(layout.TITLE.format(about), elem_classes='title', elem_id='about')
        with gr.Row():
            with gr.Column(scale=5):
                example = layout.example_column()
            with gr.Column(scale=6):
                result = layout.result_column()
        _wire_examples(session, example, result)
        _wire_pictures(session, result)
    return page


class _NewSession(Session):
    """An empty session, which Gradio copies for each user at the first event.

    Of a function, Gradio would make the session when the page has loaded, and forget what was dropped before.
    """

    def __init__(self, segmenter: Segmenter):
        super().__init__(segmenter)
        self._new = functools.partial(_NewSession, segmenter)

    def __deepcopy__(self, memo) -> Session:
        return self._new()


# One event at a time over all users, because the network and the memory are shared.
ON = dict(concurrency_id='network', concurrency_limit=1, api_visibility='private')
QUICK = dict(api_visibility='private', show_progress='hidden')
DRAFT = ('start', 'picture', 'draft', 'editor', 'clicks', 'typed', 'mask')
EXAMPLES = ('gallery', 'changes')
RESULTS = ('said', 'gallery', 'download', 'clear', 'use', 'remove')


def _parts(column, names):
    return [column[name] for name in names]


def _then_segment(changed, session, result):
    """After a change of the examples, segment all pictures again."""
    changed.success(
        plainly(events.segment),
        [session, result['threshold']],
        _parts(result, RESULTS),
        **ON,
    )


def _wire_examples(session, example, result):
    draft, examples = _parts(example, DRAFT), _parts(example, EXAMPLES)
    editor, clicks = example['editor'], example['clicks']
    begin = plainly(events.draft)
    example['picture'].upload(begin, [session, example['picture']], draft, **ON)
    for event in (example['picture'].clear, example['other'].click):
        event(events.no_draft, session, draft, **ON)
    editor.upload(events.let_paint, None, example['draft'], queue=False, **QUICK)
    for way in ('paint', 'marks', 'file'):
        example[way].select(functools.partial(events.take_way, way), session, **QUICK)
    for name in ('fill', 'snap'):
        change = plainly(getattr(events, name))
        example[name].click(change, [session, editor], editor, **ON)
    clicks.select(plainly(events.click), [session, example['mode']], clicks, **ON)
    example['typed'].submit(plainly(events.type_box), [session, example['typed']], clicks, **ON)
    example['again'].click(plainly(events.start_over), session, clicks, **ON)
    given = [session, example['picture'], example['mask'], editor]
    example['gallery'].select(events.choose_example, session, **QUICK)
    example['gallery'].preview_close(events.choose_no_example, session, **QUICK)
    changes = [
        (example['add'], events.add, given, draft + examples),
        (example['samples'], events.add_samples, session, examples),
        (example['remove'], events.remove_example, session, examples),
        (example['clear'], events.remove_examples, session, examples),
        (result['use'], events.use_result, [session, result['threshold']], examples),
    ]
    for button, change, inputs, outputs in changes:
        changed = button.click(plainly(change), inputs, outputs, **ON)
        _then_segment(changed, session, result)


def _wire_pictures(session, result):
    state, results = [session, result['threshold']], _parts(result, RESULTS)
    gallery = result['gallery']
    changed = result['queries'].upload(
        plainly(events.add_pictures),
        [*state, result['queries']],
        [result['queries'], *results],
        **ON,
    )
    _then_segment(changed, session, result)
    detail = result['detail']
    changed = detail.input(plainly(events.look), [session, detail], detail, **ON)
    _then_segment(changed, session, result)
    of_one = _parts(result, ('use', 'remove'))
    gallery.select(events.choose_picture, session, of_one, **QUICK)
    gallery.preview_close(events.choose_no_picture, session, of_one, **QUICK)
    result['remove'].click(plainly(events.remove_picture), state, results, **ON)
    result['clear'].click(plainly(events.clear_pictures), state, results, **ON)
    result['threshold'].change(
        plainly(Session.shown), state, gallery, trigger_mode='always_last', **QUICK
    )
    result['download'].click(plainly(events.zipped), state, result['link'], **ON).success(
        None, js="() => document.querySelector('#zip').click()", api_visibility='private'
    )
