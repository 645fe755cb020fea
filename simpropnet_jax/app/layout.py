"""What is on the page, and how it looks: wide, on a phone, light and dark."""

import gradio as gr

from simpropnet_jax.app.session import DETAIL, MOST_QUERIES
from simpropnet_jax.app.uploads import SIDE
from simpropnet_jax.io import overlay

PAINT = ('#{:02x}{:02x}{:02x}'.format(*overlay.TRUTH), 0.6)  # colour, and how opaque
GALLERY = dict(
    fit_columns=False,
    object_fit='contain',
    format='jpeg',
    buttons=[],
    interactive=False,
    show_label=False,
)
WAYS = (('corner of a box', 'corner'), ('on the object', 'inside'), ('beside it', 'outside'))
"""What a click means, in words and in `Marks`."""
LOADING = 'loading'
"""Class of the draft until the editor has loaded its picture; the editor would lose what is painted before."""
THEME = gr.themes.Default(
    # Fonts of the user's machine: nothing is fetched.
    primary_hue='emerald',
    font=['system-ui', 'sans-serif'],
    font_mono=['ui-monospace', 'monospace'],
).set(
    # A contrast of 4.5 at least, which Gradio's own shades miss.
    button_primary_background_fill='*primary_700',
    button_primary_background_fill_dark='*primary_700',
    button_primary_background_fill_hover='*primary_800',
    button_primary_background_fill_hover_dark='*primary_800',
    block_label_text_color='*neutral_700',
    block_label_text_color_dark='*neutral_200',
    block_title_text_color='*neutral_700',
    block_title_text_color_dark='*neutral_200',
    body_text_color_subdued='*neutral_600',
    body_text_color_subdued_dark='*neutral_300',
    link_text_color='*primary_700',
    link_text_color_dark='*primary_400',
    input_placeholder_color='*neutral_500',
    input_placeholder_color_dark='*neutral_400',
    color_accent='*primary_700',
    slider_color='*primary_700',
    slider_color_dark='*primary_500',
)
CSS = """
.gradio-container { width: 100% !important; max-width: 1400px !important; margin: 0 auto !important; }
.gradio-container > main { padding: 8px 16px !important; }
.title h2 { margin: 0; } .title p { margin: 0 0 2px; }
.step h3 { margin: 0; } .step p { margin: 0; }
.title p, .step p { color: var(--body-text-color-subdued) !important; }
button[role=tab][aria-selected=true] { color: var(--link-text-color) !important; }
.gallery-item .caption-label, #examples .caption-label, #results .caption-label {
  max-width: 100%; left: 0; right: 0; bottom: 0; opacity: 1 !important; white-space: normal;
  overflow-wrap: anywhere; text-align: center; font-size: 12px; }
#results .grid-container { grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); }
#examples .grid-container { grid-template-columns: repeat(auto-fill, minmax(120px, 1fr)); }
#results .grid-container, #examples .grid-container { grid-auto-rows: auto; grid-template-rows: none; }
#example .wrap, #queries .wrap { flex-direction: row; flex-wrap: wrap; gap: 0 8px; min-height: 0;
  padding-top: 26px; font-size: 14px; line-height: 1.3; }
#example .icon-wrap, #queries .icon-wrap { width: 20px; margin: 0; }
#clicks img { cursor: crosshair; }
.loading #editor { pointer-events: none; opacity: 0.4; }
button:disabled { opacity: 1 !important; background: var(--background-fill-secondary) !important;
  color: var(--body-text-color-subdued) !important; border: 1px solid var(--border-color-primary) !important; }
button:focus-visible, input:focus-visible, textarea:focus-visible, [tabindex]:focus-visible {
  outline: 3px solid var(--primary-600) !important; outline-offset: 1px; }
@media (max-width: 640px) {
  .gradio-container > main { padding: 4px 6px !important; }
  #results, #examples { height: auto !important; }
  #results .grid-wrap, #examples .grid-wrap { height: auto !important; max-height: none !important; min-height: 0; }
  #editor { height: 340px !important; min-height: 0 !important; }
}
"""
TITLE = '## Show it once, find it everywhere\n{}'
STEPS = (
    '### 1 · Show an example\nDrop a picture and mark the object in it. More examples give better masks.',
    f'### 2 · Drop your pictures\nUp to {MOST_QUERIES}; each gets a mask as soon as there is an example.',
    '### 3 · Adjust and download\nLower takes in more. Tiles find small objects. Select a picture to enlarge it.',
)


def brush(side: int) -> gr.Brush:
    """Return a brush that suits a picture with this shorter side in pixels."""
    return gr.Brush(
        default_size=max(3, side // 24), colors=[PAINT], default_color=PAINT, color_mode='fixed'
    )


def example_column() -> dict[str, gr.blocks.Block]:
    """Make the left column: a picture, three ways to give its mask, and the examples."""
    gr.Markdown(STEPS[0], elem_classes='step')
    with gr.Column(elem_id='start') as start:
        picture = gr.File(label='Drop a picture with the object', height=90, elem_id='example')
        samples = gr.Button('No picture at hand? Try the samples', size='sm', elem_id='samples')
    with gr.Column(visible=False, elem_id='draft') as draft:
        with gr.Tabs():
            ways = [_paint_tab(), _marks_tab(), _file_tab()]
        with gr.Row():
            add = gr.Button('Add this example', variant='primary', elem_id='add')
            other = gr.Button('Take another picture', elem_id='other')
    gallery = gr.Gallery(
        label='Examples', visible=False, columns=4, height=150, elem_id='examples', **GALLERY
    )
    with gr.Row(visible=False) as changes:
        remove = gr.Button('Remove the selected example', size='sm', elem_id='remove')
        clear = gr.Button('Remove all', size='sm', elem_id='clear')
    found = dict(
        start=start,
        picture=picture,
        samples=samples,
        draft=draft,
        add=add,
        other=other,
        gallery=gallery,
        changes=changes,
        remove=remove,
        clear=clear,
    )
    for way in ways:
        found |= way
    return found


def _paint_tab():
    with gr.Tab('Paint', id='paint', elem_id='paint') as tab:
        editor = gr.ImageEditor(
            show_label=False,
            container=False,
            sources=(),
            transforms=(),
            layers=False,
            height=430,
            buttons=[],
            canvas_size=(SIDE, SIDE),
            format='png',
            elem_id='editor',
            brush=brush(400),
        )
        with gr.Row():
            fill = gr.Button('Fill the outline', size='sm', elem_id='fill')
            snap = gr.Button('Snap to the edges', size='sm', elem_id='snap')
    return dict(paint=tab, editor=editor, fill=fill, snap=snap)


def _marks_tab():
    with gr.Tab('Box or clicks', id='marks', elem_id='marks') as tab:
        mode = gr.Radio(
            WAYS, value='corner', label='A click marks', container=False, elem_id='mode'
        )
        clicks = gr.Image(
            show_label=False,
            container=False,
            interactive=False,
            buttons=[],
            height=330,
            format='jpeg',
            elem_id='clicks',
        )
        with gr.Row():
            typed = gr.Textbox(
                label='Or type a box: left, top, right, bottom in %',
                placeholder='20, 10, 80, 90',
                elem_id='typed',
                scale=3,
            )
            again = gr.Button('Start over', size='sm', elem_id='again', scale=1)
    return dict(marks=tab, mode=mode, clicks=clicks, typed=typed, again=again)


def _file_tab():
    with gr.Tab('Mask file', id='file', elem_id='file') as tab:
        mask = gr.File(
            label='Drop its mask (black is background; the same size as the picture) or COCO or labelme JSON',
            height=130,
            elem_id='mask',
        )
    return dict(file=tab, mask=mask)


def result_column() -> dict[str, gr.blocks.Block]:
    """Make the right column: pictures, threshold, what can be done with them, and their masks."""
    gr.Markdown(STEPS[1], elem_classes='step')
    queries = gr.File(
        label='Drop pictures to segment', file_count='multiple', height=90, elem_id='queries'
    )
    said = gr.Markdown(elem_id='said')
    gr.Markdown(STEPS[2], elem_classes='step')
    with gr.Row(equal_height=True):
        threshold = gr.Slider(
            0, 1, 0.5, step=0.01, label='Threshold', buttons=[], scale=3, elem_id='threshold'
        )
        detail = gr.Dropdown(
            list(DETAIL), label='Detail', scale=2, min_width=130, elem_id='detail', filterable=False
        )
        download = gr.Button(
            'Download masks and overlays',
            variant='primary',
            interactive=False,
            scale=2,
            elem_id='download',
        )
    with gr.Row():
        off = dict(size='sm', interactive=False, min_width=100)
        use = gr.Button('Use the result as an example', elem_id='use', **off)
        remove = gr.Button('Remove the picture', elem_id='remove_query', **off)
        clear = gr.Button('Remove all', elem_id='clear_queries', **off)
    gallery = gr.Gallery(
        label='Pictures', visible=False, columns=3, height=400, elem_id='results', **GALLERY
    )
    link = gr.DownloadButton(visible='hidden', elem_id='zip')
    return dict(
        queries=queries,
        said=said,
        threshold=threshold,
        detail=detail,
        download=download,
        clear=clear,
        gallery=gallery,
        use=use,
        remove=remove,
        link=link,
    )
