"""The models that have a name. To add a model, add a line."""

from pathlib import Path

FOLDER = Path(__file__).parent.parent / 'pretrained'
"""Files of the models that come with the package."""

BUNDLED = 'bundled'  # source of a model that is NAME.safetensors in FOLDER

# Name -> BUNDLED, or where it is downloaded from: hf://owner/name@revision or https://...#sha256=...
MODELS = {
    'simpropnet-voc': BUNDLED,
}

DEFAULT = 'simpropnet-voc'
"""The model that is used where no checkpoint is given."""
