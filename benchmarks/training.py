"""Time a training step against a plain PyTorch one, after checking that both have the same loss and gradient.

    simpropnet bench training --config simpropnet
    simpropnet bench training --config canet --config.train.size=161 --batches 4,8
    simpropnet bench training --config simpropnet --batches 8,16,32 --out step.json      (on a GPU)

Needs PyTorch, and no data: images are noise, weights are random. Both sides are given the same uint8 batch on the
device, and both normalise it; decoding and augmentation are in neither. Compilation is timed apart.

The table says for each batch the seconds a step (median, lowest and highest), pairs a second, how many times as fast
as the fastest row of PyTorch it is, and the utilisation: the operations of the plain step (every convolution as PyTorch
has it, forward and backward, frozen layers forward only) a second, over the rate of a large matrix product of the same
type, in whichever of JAX and PyTorch that is faster. Ours leaves out operations that are not needed, so this may be
more than the share of its time that the hardware is busy.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from benchmarks import measure
from simpropnet_jax.config import command_line
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.io.labels import VOID
from simpropnet_jax.runtime import checkpoint, sharding
from simpropnet_jax.setup.method import Method
from simpropnet_jax.training import history, objectives
from simpropnet_jax.training.state import TrainState, from_variables, make_optimizer, make_step

# What a config may not change, as the peer has nothing else.
FIXED = {
    'train.optimizer': 'sgd',
    'train.clip': 0.0,
    'train.turn': False,
    'train.crc': False,
    'train.frozen': ('backbone',),
    'train.poly_power': 0.0,
    'train.warmup_steps': 0,
    'tpc.when': 'never',
}
GPU_SETTINGS = (
    'eager',
    'channels_last',
    'autocast',
    'channels_last+autocast',
    'compile',
    'compile+channels_last+autocast',
)
TOLERANCE = {
    'loss': 1e-4,
    'gradient': 1e-2,
}  # where a ReLU begins, rounding decides: 1.5e-3 at 321 x 321


def main(
    config: ConfigDict,
    batches: Sequence[int | str],
    settings: Sequence[str] = (),
    dtypes: Sequence[str] = (),
    repeats: int = 10,
    matrix: int = 0,
    out: Path | None = None,
) -> dict[str, Any]:
    """Check, time, print the table and write the JSON file.

    Args:
      batches: pairs of a step.
      settings: of PyTorch, see `measure.WORDS`; (): eager on a CPU, several on a GPU.
      dtypes: of ours, 'float32' or 'bfloat16'; (): the former on a CPU, both on a GPU.
      repeats: timed steps.
      matrix: side of the matrices in the timed product; 0: a large one.
      out: the JSON file; None: none.
    Returns: what is written.
    Raises:
      ValueError, ImportError: in one sentence, what is wrong, or that both sides do not compute the same.
    """
    measure.require_torch()
    from benchmarks import peer_loops

    batches = measure.whole_numbers('batches', batches)
    measure.whole_numbers('repeats', [repeats])
    method, device = plain_method(config), measure.torch_device()
    settings = measure.chosen_settings(settings, GPU_SETTINGS)
    dtypes = measure.chosen_dtypes(dtypes)
    params = measure.random_params(method)
    checked = check(method, params, random_batch(method, min(batches)), peer_loops, device)
    print(
        f'loss and gradient are the same: off by {checked["loss"]:.1e} and {checked["gradient"]:.1e}'
    )
    rates = measure.matrix_rates(
        sorted({'float32', *dtypes, *(_dtype(one) for one in settings)}), device, matrix
    )
    record = {
        'method': method.config.model.name,
        'size': method.config.train.size,
        'checked': checked,
        'matrix_rates': rates,
        **measure.machine(),
        'rows': [],
    }
    for size in batches:
        batch = random_batch(method, size)
        contestants = {f'ours {dtype}': OurSteps(method, params, batch, dtype) for dtype in dtypes}
        for setting in settings:
            contestants[f'PyTorch {setting}'] = peer_steps(
                method, params, batch, peer_loops, device, setting
            )
        times = measure.take_turns(contestants, repeats, settle=True)
        operations = count_operations(method.config, batch, peer_loops)
        record['rows'] += rows(size, times, operations, rates)
    print(table(record))
    if out:
        checkpoint.write_json(out, record)
    return record


def plain_method(config: ConfigDict) -> Method:
    """The config's method without its weights and without augmentation.

    Raises:
      ValueError: a field is wrong, or the peer does not have it.
    """
    config_rules.validate(config, devices=1)
    measure.refuse_what_the_peer_lacks(config, FIXED)
    config = ConfigDict(config.to_dict())
    config.train.update(support_scale=1.0, support_flip=False, ica=0.0)
    if config.model.convention == 'auto':
        config.model.convention = 'torchvision'
    return Method.from_config(config)


def random_batch(method: Method, size: int) -> dict[str, np.ndarray]:
    """Pairs as the loader gives them: noise, with a square object, void around it, and for CANet a history."""
    config, rng = method.config, np.random.default_rng(0)
    shots, side = config.train.shot, config.train.size
    label = np.zeros((size, 1 + shots, side, side), np.uint8)
    third = side // 3
    for one in label.reshape(-1, side, side):
        row, column = rng.integers(0, side - third, 2)
        one[row : row + third, column : column + third] = VOID
        one[row + 2 : row + third - 2, column + 2 : column + third - 2] = 1
    image = rng.integers(0, 256, (size, 1 + shots, side, side, 3), np.uint8)
    batch = {
        'query_image': image[:, 0],
        'query_label': label[:, 0],
        'support_image': image[:, 1:],
        'support_label': label[:, 1:],
    }
    batch = {name: np.ascontiguousarray(array) for name, array in batch.items()}
    if method.module.iterative and config.train.history_drop < 1:
        grid = -(-side // 8)
        foreground = rng.uniform(size=(size, grid, grid)).astype(np.float16).astype(np.float32)
        batch['history'] = np.stack([1 - foreground, foreground], -1)
    return batch


def our_objective(method: Method):
    config = method.config
    return objectives.episodic(
        method.module,
        config.train,
        void=config.data.void,
        convention=config.model.convention,
        steps=1000,
    )


def our_batch(batch: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], jax.Array | None]:
    """Ours takes the history from the state, by the number of the pair; a class is named, which these do not ask."""
    pairs = np.arange(len(batch['query_image']), dtype=np.int32)
    own = {name: array for name, array in batch.items() if name != 'history'}
    own |= {'pair_id': pairs, 'class_id': np.ones_like(pairs)}
    past = jnp.asarray(batch['history'][..., 1], jnp.float16) if 'history' in batch else None
    return own, past


def check(method, params, batch, peer_loops, device) -> dict[str, float]:
    """Return the relative differences of loss and gradient, in float32 and without dropout.

    Raises:
      ValueError: by more than `TOLERANCE`.
    """
    import torch

    from benchmarks import peer

    config = ConfigDict(method.config.to_dict())
    config.model.update(dropout=0.0, dtype='float32')
    config.train.history_drop = 0.0 if 'history' in batch else 1.0
    exact = Method.from_config(config)
    own, past = our_batch(batch)
    state = from_variables(
        {'params': params}, config.train.frozen, make_optimizer(config.train, 1), past
    )

    def loss_of(trainable, state, own):
        return our_objective(exact)(state.replace(params=trainable), own, jax.random.key(0))[0]

    allowed, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    with jax.default_matmul_precision('highest'):
        loss, gradients = jax.jit(jax.value_and_grad(loss_of))(state.params, state, own)
        training = peer_loops.Training(config, params, device)
        expected, others = training.loss_and_gradients(training.to_device(batch))
    torch.backends.cudnn.allow_tf32 = allowed
    whole = np.sqrt(sum(float(np.square(one).sum()) for one in others.values()))
    own_gradients = {name: one.numpy() for name, one in peer.state_dict(gradients).items()}
    apart = max(
        float(np.linalg.norm(own_gradients[name] - one))
        / max(float(np.linalg.norm(one)), 1e-3 * whole)
        for name, one in others.items()
    )
    found = {'loss': abs(float(loss) - expected) / abs(expected), 'gradient': apart}
    if own_gradients.keys() != others.keys() or any(
        found[name] > allowed for name, allowed in TOLERANCE.items()
    ):
        raise ValueError(
            f'the two do not compute the same, so their times say nothing: relative errors {found}'
        )
    return found


class OurSteps:
    """Called, it makes one step and waits for it."""

    def __init__(self, method, params, batch, dtype):
        config = ConfigDict(method.config.to_dict())
        config.model.dtype = dtype
        module, mesh = Method.from_config(config).module, measure.one_device()
        optimizer = make_optimizer(config.train, 1000)
        objective = our_objective(Method(config, module, {}, None))
        self.step = make_step(objective, optimizer, seed=config.seed, mesh=mesh)
        own, past = our_batch(batch)
        self.batch = sharding.to_devices(mesh, own)
        maps = None if past is None else history.blank(*past.shape[:1], past.shape[1:])

        def create(params):
            return from_variables({'params': params}, config.train.frozen, optimizer, maps)

        self.state: TrainState = jax.jit(create, out_shardings=sharding.replicated(mesh))(params)

    def __call__(self):
        self.state, metrics = self.step(self.state, self.batch)
        jax.block_until_ready((self.state, metrics))


def peer_steps(method, params, batch, peer_loops, device, setting):
    """The same of PyTorch."""
    training = peer_loops.Training(method.config, params, device, setting)
    batch = training.to_device(batch)
    return lambda: training.step(batch)


def count_operations(config: ConfigDict, batch: Mapping[str, np.ndarray], peer_loops) -> int:
    """Additions and multiplications of the peer's convolutions in one step, forward and backward.

    The network is run without numbers (PyTorch's device 'meta'); all else that it does is less than a hundredth.
    """
    import torch

    from benchmarks import peer

    with torch.device('meta'):
        network = peer.build(config.model).train()
        given = {
            name: torch.empty(array.shape, dtype=torch.from_numpy(array[:0]).dtype)
            for name, array in batch.items()
        }
        masks = torch.empty(batch['support_label'].shape)
    past = given['history'].permute(0, 3, 1, 2) if 'history' in given else None
    arguments = (
        given['query_image'],
        given['support_image'],
        masks,
        masks,
        config.train.dual_prediction,
        past,
    )
    return operations_of(network, *arguments)


def operations_of(network, *arguments) -> int:
    """Operations of the convolutions of a network in one forward pass and the backward pass that would follow.

    The backward pass of a convolution costs the same as its forward pass for trained weights, and again for its input
    if an earlier layer is trained.
    """
    import torch

    total = 0

    def count(layer, inputs, output):
        nonlocal total
        taps = layer.in_channels // layer.groups * layer.kernel_size[0] * layer.kernel_size[1]
        passes = 1 + layer.weight.requires_grad + inputs[0].requires_grad
        total += 2 * output.numel() * taps * passes

    hooks = [
        layer.register_forward_hook(count)
        for layer in network.modules()
        if isinstance(layer, torch.nn.Conv2d)
    ]
    network(*arguments)
    for hook in hooks:
        hook.remove()
    return total


def rows(
    size: int, times: Mapping[str, measure.Times], operations: int, rates
) -> list[dict[str, Any]]:
    """One a contestant, for the JSON file and the table."""
    best, result = measure.fastest(times, 'PyTorch'), []
    for name, one in times.items():
        rate = max(rates[_dtype(name)].values())
        result.append(
            {
                'batch': size,
                'name': name,
                'seconds': one.record(),
                'shown': str(one),
                'operations': operations,
                'pairs_per_second': size / one.median,
                'times_the_peers_best': best / one.median,
                'utilisation': operations / one.median / rate,
            }
        )
    return result


def _dtype(name):
    """In what a row or a setting computes."""
    return 'bfloat16' if 'bfloat16' in name or 'autocast' in name else 'float32'


def table(record: Mapping[str, Any]) -> str:
    """The rows as Markdown, and the rates below."""
    lines = [
        '| batch | | a step | pairs/s | x PyTorch | utilisation | compilation |',
        '|---|---|---|---|---|---|---|',
    ]
    for row in record['rows']:
        lines.append(
            f'| {row["batch"]} | {row["name"]} | {row["shown"]} | {row["pairs_per_second"]:.3g} '
            f'| {row["times_the_peers_best"]:.2f} | {row["utilisation"]:.1%} '
            f'| {row["seconds"]["compilation"]:.1f} s |'
        )
    for dtype, found in record['matrix_rates'].items():
        each = ', '.join(f'{name} {rate / 1e9:.4g}' for name, rate in found.items())
        lines.append(f'\nMatrix products of {dtype}: {each} Gflop/s.')
    plain = record['rows'][-1]
    return '\n'.join(
        [
            *lines,
            f'\nThe plain step takes {plain["operations"] / plain["batch"] / 1e9:.4g} Gflop a pair.',
        ]
    )


def add_arguments(parser: command_line.Parser) -> None:
    """Add the flags."""
    command_line.add_config(parser, required=True, only=('model.', 'train.', 'data.void'))
    parser.add_argument(
        '--batches',
        type=command_line.comma_separated,
        default='8',
        metavar='NUMBERS',
        help='pairs of a step, several with commas between',
    )
    measure.add_settings(parser, 'six')
    parser.add_argument(
        '--repeats', type=int, default=10, help='timed steps, of which the median is taken'
    )
    parser.add_argument(
        '--matrix',
        type=int,
        default=0,
        help='side of the matrices whose product is timed; 0: large',
    )
    measure.add_out(parser)


def run_typed(args) -> None:
    """Run the benchmark with the flags that were typed."""
    main(
        args.config,
        args.batches,
        args.settings,
        args.dtypes,
        args.repeats,
        args.matrix,
        args.out,
    )


if __name__ == '__main__':
    script = command_line.Script(__doc__, add_arguments, run_typed)
    command_line.run(script, prog='simpropnet bench training')
