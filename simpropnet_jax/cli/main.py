"""simpropnet: few-shot segmentation, from data to tables.

    simpropnet segment --support cat.jpg cat.png --query photos --out masks      with the model of the package
    simpropnet train --config simpropnet:fold=2 --workdir runs/fold2
    simpropnet eval --workdir runs/fold2

`simpropnet COMMAND --help` explains a command.
"""

import difflib
import importlib
import sys
from collections.abc import Sequence

from simpropnet_jax.config import command_line, field_help
from simpropnet_jax.runtime import errors

# Each command is a module of this folder, with _ in place of the space: `hpascal build` is hpascal_build.py.
COMMANDS = {
    'prepare pascal5i': 'prepare PASCAL-5i, from nothing or from files that you have',
    'prepare coco20i': 'prepare COCO-20i from the official archives or folders',
    'prepare fss1000': 'prepare FSS-1000 from the released folder',
    'prepare folder': 'check your own images and masks, and prepare them to train and evaluate on',
    'prepare packed': 'pack prepared data into a few files that need no TensorFlow',
    'train': 'train a method',
    'eval': 'evaluate a trained method on classes it was never trained on',
    'segment': 'segment your pictures from a few images with masks',
    'app': 'open a page in the browser that segments pictures',
    'export': 'write a trained method for servers and other programs',
    'publish': 'write a trained method as a folder that others load by name',
    'masks': 'write the masks of an evaluation as PNG files',
    'sweep': 'train and evaluate several recipes, and compare them',
    'tables': 'print result files as tables',
    'compare': 'say whether one result is better than another',
    'report': 'write a folder of results as one page',
    'board': 'write a leaderboard of results on the same episodes',
    'curves': 'draw validation scores over the training',
    'pictures similar': 'draw queries with supports of growing similarity',
    'pictures side_by_side': 'draw two methods on the same episodes',
    'pictures pairs': 'draw transformed pairs (TPC)',
    'episodes': 'write the episodes of an evaluation to files, for other programs',
    'hpascal build': 'build H-PASCAL-5i',
    'hpascal eval': 'evaluate a method on H-PASCAL-5i',
    'hpascal table': 'print results on H-PASCAL-5i as one table',
    'diagnose overlap': 'compare the errors of a method with those of a supervised network',
    'diagnose similarity': 'measure how alike mispredicted regions are',
    'diagnose background': "measure how alike the backgrounds of a class's images are",
    'oracle': 'evaluate a supervised network, and write its label maps',
    'demo': 'train and evaluate on an embedded data set, without any download',
    'bench': 'run the benchmarks of a checkout',
    'info': 'show versions, devices, data and caches',
}


def main(words: Sequence[str] | None = None) -> None:
    """Run the command that the words name.

    Args:
      words: what was typed after `simpropnet`; None: the program's own.
    """
    words = sys.argv[1:] if words is None else list(words)
    for length in (2, 1):
        name = ' '.join(words[:length])
        if name in COMMANDS:
            _run(name, words[length:])
            return
    group = _group(words[0]) if words else ()
    rest = words[1:] if group else words
    if not rest or set(rest[:1]) & set(command_line.HELP):
        command_line.print_help(lambda: _group_help(words[0], group) if group else _help())
    if rest[0].startswith('-'):
        errors.stop(f'a command must come before {rest[0]}; `simpropnet --help` lists the commands')
    errors.stop(_unknown(words, group))


def _run(name: str, words: Sequence[str]) -> None:
    try:
        command_line.run(module(name), words, f'simpropnet {name}')
    except KeyboardInterrupt:  # at any moment, while a command ends, too
        errors.stop('stopped. Re-run the same command to resume', 130)


def module(name: str) -> command_line.Command:
    """Import the module of a command."""
    return importlib.import_module(f'simpropnet_jax.cli.{name.replace(" ", "_")}')


def _group(word: str) -> list[str]:
    """Commands that begin with a word and another one."""
    return [name for name in COMMANDS if name.startswith(f'{word} ')]


def _help() -> str:
    rows = field_help.columns(COMMANDS.items())
    return f'usage: simpropnet COMMAND [...]\n\n{__doc__}\nCommands:\n{rows}'


def _group_help(word: str, group: Sequence[str]) -> str:
    kinds = ','.join(name.split()[1] for name in group)
    rows = field_help.columns((name, COMMANDS[name]) for name in group)
    more = f'    simpropnet {group[0]} --help      explains the first of them'
    return f'usage: simpropnet {word} {{{kinds}}} [...]\n\n{rows}\n{more}\n'


def _unknown(words: Sequence[str], group: Sequence[str]) -> str:
    if group:
        kinds = ', '.join(name.split()[1] for name in group)
        return f'after `simpropnet {words[0]}` must come one of {kinds}, got {words[1]!r}'
    firsts = dict.fromkeys(name.split()[0] for name in COMMANDS)
    near = difflib.get_close_matches(words[0], firsts, n=1)
    hint = f'did you mean {near[0]}?' if near else '`simpropnet --help` lists the commands'
    return f'there is no command {words[0]!r}; {hint}'
