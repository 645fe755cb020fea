"""Are the backgrounds of a class's images more alike than its objects? By class, as a table and as a bar figure.

    simpropnet diagnose background --out background.png --config.data.name=pascal5i/subset

SimPropNet's Figure 3: cosine of the masked averages of ResNet-50's layer2+layer3 over the objects of two images of a
class, and over their backgrounds (all that is neither the class nor void), the mean over the pairs of each class; 4,000
pairs. There the backgrounds are more alike in all 20 classes; the paper prints no numbers. No method is needed. The
numbers go to a JSON file next to the figure.
"""

from pathlib import Path

from simpropnet_jax.config import command_line


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    command_line.add_config(parser, default='background')
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        metavar='PICTURE',
        help='picture to write: .png, .pdf or .svg; the numbers go next to it',
    )


def main(args) -> None:
    """Measure, draw the figure and print the table."""
    from simpropnet_jax.analysis import background

    print(background.table(background.measure_and_draw(args.config, args.out)), end='')
