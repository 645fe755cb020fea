"""Are the regions that a few-shot method mispredicts alike, from image to image? Relative to how alike objects are.

    simpropnet diagnose similarity --checkpoint runs/fold2
    simpropnet diagnose similarity --checkpoint runs/fold0 runs/fold1 runs/fold2 runs/fold3
    simpropnet diagnose similarity --config simpropnet:fold=2 --predictions masks       (of any program)

For two images A and B of a class, with Z^g the masked average of features over the true mask and Z^e that over the
region mispredicted (missed or added, void left out),

    ratio = cos(Z^e(A), Z^e(B)) / cos(Z^g(A), Z^g(B))

both papers find 0.87 +- 0.25 over 1,000 pairs for CANet, with VGG-16. (Improved Similarity Propagation says cosine;
SimPropNet writes inner products, which also depend on the norms of the features.) Each image is predicted as
the query of its first episode with the class, in the first set that config.eval says. Pairs are drawn from these, the
same number of each class, none twice. Masked averages follow SG-One: features are resized to the mask. A pair in
which an image has too few mispredicted pixels is skipped, and counted.
"""

from simpropnet_jax.cli import predictor_flags
from simpropnet_jax.config import command_line


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    predictor_flags.add_predictors(parser, 1000, 'pairs of images of one class over all runs')
    parser.add_argument(
        '--features',
        choices=predictor_flags.NETWORKS,
        default='vgg16',
        help="network of the features; resnet50: our methods' encoder",
    )
    parser.add_argument(
        '--weights',
        default='keras',
        metavar='WEIGHTS',
        help="weights of that network: a file, 'keras': downloaded, or a run folder",
    )
    parser.add_argument(
        '--size',
        type=command_line.at_least(32),
        default=321,
        metavar='PIXELS',
        help='side of the square that images are stretched to for that network',
    )
    parser.add_argument(
        '--min_pixels',
        type=command_line.at_least(1),
        default=100,
        metavar='N',
        help='mispredicted pixels that both images must have',
    )
    parser.add_argument(
        '--seed', type=command_line.at_least(0), default=0, help='seed of the pairs (default: 0)'
    )


def main(args) -> None:
    """Measure the ratio, write the numbers and print the table."""
    from simpropnet_jax.runtime import hosts

    hosts.start()
    from simpropnet_jax.analysis import similarity
    from simpropnet_jax.backbones.extractor import load_extractor
    from simpropnet_jax.setup.weights import backbone_weights

    predictors = predictor_flags.given_predictors(args, None)
    record = similarity.measure(
        predictors,
        load_extractor(args.features, backbone_weights(args.weights)),
        size=args.size,
        pairs=args.pairs,
        min_pixels=args.min_pixels,
        seed=args.seed,
    )
    predictor_flags.write_numbers(args.out, record)
    print(similarity.table(record), end='')
