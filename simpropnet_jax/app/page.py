"""The page: what is on it, and what happens when something is dropped, painted, moved or clicked."""

import contextlib
import functools
import html
import logging
import socket
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

import gradio as gr

from simpropnet_jax.app import guard
from simpropnet_jax.app import session as sessions
from simpropnet_jax.app.session import Session
from simpropnet_jax.app.storage import Storage
from simpropnet_jax.inference import Segmenter

logger = logging.getLogger(__name__)

MOST_SESSIONS = 30  # open pages whose pictures are kept; the oldest is forgotten for the next
PAINT = ('#28c850', 0.6)  # the colour of `visualize.TRUTH`, and how opaque
STATE_KEPT = 3600  # seconds that a closed page's pictures are kept
GALLERY = dict(
    fit_columns=False, object_fit='contain', format='jpeg', buttons=[], interactive=False
)
THEME = gr.themes.Default(
    primary_hue='emerald', font=['system-ui', 'sans-serif'], font_mono=['ui-monospace', 'monospace']
)  # of fonts that are on the user's machine: nothing is fetched
CSS = """
.gradio-container { width: 100% !important; max-width: 1360px !important; margin: 0 auto !important; }
.step h3 { margin: 0 0 2px; } .step p { margin: 0; color: var(--neutral-600); } 
.dark .step p { color: var(--neutral-300); }
"""
TITLE = """## Show it once, find it everywhere
Paint one object on one picture: the same kind of thing is found in your other pictures.
"""
STEPS = (
    '### 1 · Show an example\nDrop a picture, paint over the object, add it. More examples give better masks.',
    '### 2 · Drop your pictures\nEach gets a mask at once, as soon as there is an example.',
    '### 3 · Adjust and download\nA lower threshold takes in more, a higher one less.',
)


def build(segmenter: Segmenter) -> gr.Blocks:
    """The page around a trained method, which all users share; each has a `Session`."""
    with gr.Blocks(
        title='Few-shot segmentation', analytics_enabled=False, delete_cache=(600, STATE_KEPT)
    ) as page:
        session = gr.State(lambda: Session(segmenter))
        gr.Markdown(TITLE)
        with gr.Row():
            with gr.Column(scale=5):
                example = _example_column()
            with gr.Column(scale=6):
                result = _result_column()
        _wire(session, example, result)
    return page


def serve(
    segmenter: Segmenter,
    host: str,
    port: int,
    most_megabytes: int,
    storage: Storage,
    allowed: Sequence[str] = (),
) -> None:
    """Serve the page until the program is interrupted.

    Args:
      host, port: address to listen at.
      most_megabytes: largest size of a file.
      storage: counts all uploads.
      allowed: more names that the page goes by.
    """
    page = build(segmenter).queue(api_open=False)
    token = guard.new_token(host)
    _log_in_one_line()

    @contextlib.asynccontextmanager
    async def guarded(app):
        """Put the guard around all of Gradio's own middleware, before the first request."""
        app.middleware_stack = guard.Guard(app.middleware_stack, host, allowed, token, storage)
        yield

    page.launch(
        server_name=host,
        server_port=port,
        max_file_size=most_megabytes * 2**20,
        quiet=True,
        share=False,
        ssr_mode=False,
        run_history=False,
        footer_links=[],
        state_session_capacity=MOST_SESSIONS,
        theme=THEME,
        css=CSS,
        prevent_thread_lock=True,
        app_kwargs={'lifespan': guarded},
    )
    logger.info(
        'open %s in a browser; Ctrl+C ends', _address(page.local_url, host, port, allowed, token)
    )
    page.block_thread()


def _address(local: str, host: str, port: int, allowed: Sequence[str], token: str) -> str:
    """Return what to open: for other machines, this machine's name and the token."""
    if not token:
        return local
    anywhere = host in ('0.0.0.0', '::')
    name = next(iter(allowed), 'localhost') if anywhere else host
    name = f'[{name}]' if ':' in name else name
    return f'http://{name}:{port}/?{guard.TOKEN}={token}'


class _OneLine:
    """The module `traceback` for Gradio, which prints what goes wrong in an event."""

    def __getattr__(self, name):
        return getattr(traceback, name)

    def print_exc(self, *args, **options):
        """Log the type of the error alone."""
        logger.debug('where it went wrong:', exc_info=True)
        logger.warning('a request failed (%s)', type(sys.exception()).__name__)


def _without_traceback(record: logging.LogRecord) -> bool:
    if record.exc_info:
        record.msg, record.args = f'a request failed ({record.exc_info[0].__name__})', ()
        record.exc_info = record.exc_text = None
    return True


def _log_in_one_line() -> None:
    """Keep the tracebacks of Gradio and its server out of the log."""
    for module in ('queueing', 'routes', 'route_utils', 'utils'):
        vars(sys.modules[f'gradio.{module}'])['traceback'] = _OneLine()
    for name in ('uvicorn.error', 'asyncio'):
        logging.getLogger(name).addFilter(_without_traceback)


def check_free(host: str, port: int) -> None:
    """Refuses, before anything takes long, a port that is taken and an address that is none of this machine."""
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        reason = error.strerror.partition(' (')[0]  # the rest says host and port again
        sentence = f'cannot listen at {host}, port {port} ({reason}): give another --port or --host'
        raise ValueError(sentence) from error


def _example_column():
    gr.Markdown(STEPS[0], elem_classes='step')
    picture = gr.File(label='Drop a picture with the object', height=150, elem_id='example')
    editor = gr.ImageEditor(
        label='Paint over the object',
        visible=False,
        sources=(),
        transforms=(),
        layers=False,
        height=460,
        buttons=[],
        canvas_size=(sessions.SIDE, sessions.SIDE),
        format='png',
        elem_id='editor',
        brush=_brush(400),
    )
    with gr.Accordion('Or give a mask that is ready', open=False, visible=False) as ready:
        mask = gr.File(
            label='Drop its mask: black is background; the same size as the picture',
            height=130,
            elem_id='mask',
        )
    add = gr.Button('Add this example', variant='primary', interactive=False, elem_id='add')
    gallery = gr.Gallery(
        label='Examples', visible=False, columns=5, height=180, elem_id='examples', **GALLERY
    )
    with gr.Row(visible=False) as changes:
        remove = gr.Button('Remove the last', size='sm', elem_id='remove')
        clear = gr.Button('Remove all', size='sm', elem_id='clear')
    return dict(
        picture=picture,
        editor=editor,
        ready=ready,
        mask=mask,
        add=add,
        gallery=gallery,
        changes=changes,
        remove=remove,
        clear=clear,
    )


def _brush(side):
    """Of a size that suits a picture with this shorter side in pixels."""
    return gr.Brush(
        default_size=max(3, side // 24), colors=[PAINT], default_color=PAINT, color_mode='fixed'
    )


def _result_column():
    gr.Markdown(STEPS[1], elem_classes='step')
    queries = gr.File(
        label='Drop pictures to segment', file_count='multiple', height=150, elem_id='queries'
    )
    said = gr.Markdown(elem_id='said')
    gr.Markdown(STEPS[2], elem_classes='step')
    gallery = gr.Gallery(
        label='Masks', visible=False, columns=3, height=460, elem_id='results', **GALLERY
    )
    threshold = gr.Slider(
        0, 1, 0.5, step=0.01, label='Threshold of the probability', buttons=[], elem_id='threshold'
    )
    with gr.Row():
        download = gr.Button(
            'Download masks and overlays', variant='primary', interactive=False, elem_id='download'
        )
        clear = gr.Button('Clear the pictures', interactive=False, elem_id='clear_queries')
    link = gr.DownloadButton(visible='hidden', elem_id='zip')
    return dict(
        queries=queries,
        said=said,
        gallery=gallery,
        threshold=threshold,
        download=download,
        clear=clear,
        link=link,
    )


def _wire(session, example, result):
    """Says what each event changes. One at a time over all users, for the network and the memory are shared."""
    on = functools.partial(
        dict, concurrency_id='network', concurrency_limit=1, api_visibility='private'
    )
    drafted = [example[name] for name in ('picture', 'editor', 'ready', 'mask', 'add')]
    examples = [example[name] for name in ('gallery', 'changes')]
    results = [result[name] for name in ('said', 'gallery', 'download', 'clear')]
    state = [session, result['threshold']]
    example['picture'].upload(_plainly(_draft), [session, example['picture']], drafted, **on())
    example['picture'].clear(_no_draft, session, drafted, **on())
    added = [*state, example['picture'], example['mask'], example['editor']]
    example['add'].click(_plainly(_add), added, drafted + examples, **on()).success(
        _plainly(_segment), state, results, **on()
    )
    for button, change in ((example['remove'], _without_last), (example['clear'], _without_any)):
        button.click(_plainly(change), session, examples, **on()).success(
            _plainly(_segment), state, results, **on()
        )
    result['queries'].upload(
        _plainly(_query), [session, result['queries']], result['queries'], **on()
    ).success(_plainly(_segment), state, results, **on())
    result['clear'].click(_plainly(_clear), state, results, **on())
    moved = dict(api_visibility='private', show_progress='hidden', trigger_mode='always_last')
    result['threshold'].change(_plainly(_overlays), state, result['gallery'], **moved)
    result['download'].click(_plainly(_zip), state, result['link'], **on()).success(
        None, js="() => document.querySelector('#zip').click()", api_visibility='private'
    )


def _plainly(event):
    """What goes wrong is said in the page in one sentence, and what the page shows stays as it is."""

    @functools.wraps(event)
    def guarded(*given):
        try:
            return event(*given)
        except (ValueError, OSError) as error:
            _warn(str(error))
        except Exception as error:
            logger.debug('where it went wrong:', exc_info=True)
            logger.warning('not expected: %s', type(error).__name__)
            _warn(
                f'something went wrong ({type(error).__name__}); the log of the program says more'
            )
        return gr.skip()

    return guarded


def _warn(sentence):
    gr.Warning(
        html.escape(sentence)
    )  # Gradio would show what is HTML in it, such as the name of a file


def _draft(session, path):
    """A picture to be painted on, or an empty place for another where the file is none."""
    try:
        session.draft = sessions.read_picture(path)
    except ValueError as error:
        _warn(str(error))
        return _no_draft(session)
    brush = _brush(min(session.draft.image.shape[:2]))
    paper = {'background': session.draft.image, 'layers': [], 'composite': None}
    shown = gr.update(visible=True)
    return (
        gr.skip(),
        gr.update(value=paper, visible=True, brush=brush),
        shown,
        shown,
        gr.update(interactive=True),
    )


def _no_draft(session):
    session.draft = None
    hidden = gr.update(visible=False)
    return None, gr.update(value=None, visible=False), hidden, None, gr.update(interactive=False)


def _add(session, threshold, picture, mask, paint):
    """What is painted, or the picture with its mask, becomes an example."""
    if session.draft is None:
        raise ValueError('there is no picture to add: drop one first')
    if mask:
        support = sessions.read_support_files(picture, mask)
    else:
        support = sessions.painted_support(session.draft, (paint or {}).get('layers') or [])
    session.set_supports([*session.supports, support])
    return *_no_draft(session), *_examples(session)


def _without_last(session):
    session.set_supports(session.supports[:-1])
    return _examples(session)


def _without_any(session):
    session.set_supports([])
    return _examples(session)


def _examples(session):
    """The gallery of examples, and whether there is anything to remove."""
    shown = [sessions.support_overlay(support) for support in session.supports]
    return gr.update(value=shown, visible=bool(shown)), gr.update(visible=bool(shown))


def _query(session, paths):
    """More pictures; what cannot be taken is named and left out. Then there is place to drop others."""
    for mistake in session.add_queries(paths):
        _warn(mistake)


def _clear(session, threshold):
    session.clear_queries()
    return _results(session, threshold)


def _segment(session, threshold, progress=gr.Progress()):  # noqa: B008  Gradio finds it by its default
    for left in session.segment():
        progress((len(session.queries) - left, len(session.queries)), unit='pictures')
    return _results(session, threshold)


def _results(session, threshold):
    """What is to be done next, and the pictures with their masks."""
    said = ''
    if session.queries and not session.supports:
        said = f'{len(session.queries)} of your pictures here: now **add an example** in step 1.'
    elif session.supports and not session.queries:
        said = 'The example is there: now **drop the pictures** in which to find it.'
    overlays = _overlays(session, threshold)
    return (
        said,
        gr.update(value=overlays, visible=bool(overlays)),
        gr.update(interactive=bool(overlays)),
        gr.update(interactive=bool(session.queries)),
    )


def _overlays(session, threshold):
    names = (query.name for query in session.queries)
    return list(zip(session.overlays(threshold), names, strict=False))


def _zip(session, threshold):
    """A file to download; none where that fails, so that no older one is taken for it."""
    path = Path(tempfile.mkdtemp()) / 'masks.zip'
    try:
        session.write_zip(path, threshold)
    except (ValueError, OSError) as error:
        _warn(str(error))
        return None
    return str(path)
