"""Writes the episodes of an evaluation to a JSON file: the same ones for every method, in any language.

    simpropnet episodes --config simpropnet:fold=2 --out fold2.json
    simpropnet episodes --config simpropnet:fold=2 --hpascal hpascal.json --out hard2.json

--config.eval.protocol=hsnet draws them by the rules of that protocol. --config.eval.episodes_file=fold2.json evaluates
on the file. It tells others what to segment; `simpropnet eval --predictions` scores their masks. --hpascal lists the
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
        metavar='FILE.json',
        help='file to write; its folder is created if missing',
    )
    parser.add_argument(
        '--hpascal',
        type=Path,
        metavar='FILE.json',
        help='file of `simpropnet hpascal build`: list its episodes',
    )
    parser.add_argument(
        '--shot',
        type=command_line.at_least(1),
        help='supports of the episodes of --hpascal (default: 1)',
    )


def main(args) -> None:
    """Write the file."""
    from simpropnet_jax.evaluation.external.episode_list import list_episodes

    list_episodes(args.config, args.out, args.hpascal, args.shot)
