"""Writes the episodes of an evaluation to files: the same ones for every method, in any language.

    simpropnet episodes --config simpropnet:fold=2 --out fold2.json
    simpropnet episodes --config simpropnet:fold=2 --out fold2      (a folder: images, masks of the supports, one JSON)
    simpropnet episodes --config simpropnet --published --out episodes      (every protocol and fold, seeds 0 to 4)
    simpropnet episodes --config simpropnet:coco --published --lists hsnet/data/splits/coco --out episodes
    simpropnet episodes --config simpropnet:fold=2 --hpascal hpascal.json --out hard2.json

--config.eval.protocol=hsnet draws them by the rules of that protocol. --config.eval.episodes_file=fold2.json evaluates
on the file. It tells others what to segment; `simpropnet eval --predictions` scores their masks. A folder is for
programs that cannot read the prepared data; it has everything but the truth of the queries. --hpascal lists the
episodes of an H-PASCAL-5i file, from L0 to L7; `simpropnet hpascal eval --predictions` scores masks of these.
"""

from pathlib import Path

from simpropnet_jax.config import command_line


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    command_line.add_config(parser, required=True, only=('data.', 'eval.'))
    parser.add_argument(
        '--out',
        required=True,
        metavar='FILE.json|DIR',
        help='file to write; its folder is created if missing. Another ending: a folder for plain files',
    )
    parser.add_argument(
        '--hpascal',
        type=Path,
        metavar='FILE.json',
        help='file of `simpropnet hpascal build`: list its episodes',
    )
    parser.add_argument(
        '--published',
        action='store_true',
        help='write a file for every protocol and fold of the data to the folder --out, with seeds 0 to 4, and their '
        'hashes',
    )
    parser.add_argument(
        '--lists',
        type=Path,
        metavar='DIR',
        help="with --published: HSNet's data/splits/coco or data/splits/fss. Draw hsnet_coco or hsnet_fss from the "
        'lists, without the images',
    )
    parser.add_argument(
        '--shot',
        type=command_line.at_least(1),
        help='supports of the episodes of --hpascal (default: 1)',
    )


def main(args) -> None:
    """Write the files."""
    if args.published:
        _write_published(args)
        return
    if args.lists:
        raise ValueError('--lists is for --published: add it, or leave out --lists')
    from simpropnet_jax.evaluation.external.episode_list import list_episodes

    list_episodes(args.config, args.out, args.hpascal, args.shot)


def _write_published(args) -> None:
    from simpropnet_jax.evaluation.external.published import write_published
    from simpropnet_jax.runtime.progress import ProgressBar

    if args.hpascal or args.shot:
        raise ValueError(
            '--published writes the episodes of protocols: leave out --hpascal and --shot'
        )
    out, bar = Path(args.out), ProgressBar()
    print(write_published(args.config, out, bar, lists=args.lists), end='')
