"""The convolutions of backbone and heads in the form that each backend runs fastest."""

import contextlib
import contextvars
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from simpropnet_jax.ops import convolve_gpu, winograd

_platform = contextvars.ContextVar('platform', default=None)  # None: this process's
# Up to so many positions of a map, XLA's own convolution of one image in float32 is as fast as ours. It compiles in a
# tenth of the time, so that the first mask comes soon. 29 x 29 are the features of 225 x 225 pixels.
FEW = 1024


_devices = contextvars.ContextVar('devices', default=1)


@contextlib.contextmanager
def batch_split_over(devices: int) -> Iterator[None]:
    """Trace for batches whose first axis is split over so many devices.

    Loops over images and sums over a batch then run on each device, over its own images. Otherwise XLA would send every
    image to every device, and Winograd's transformed gradients, which are 2.8 times as large as a kernel's.
    """
    token = _devices.set(devices)
    try:
        yield
    finally:
        _devices.reset(token)


@contextlib.contextmanager
def tracing_for(platform: str) -> Iterator[None]:
    """Trace for this platform; 'any' means every platform of JAX, and each gets its own fastest form."""
    token = _platform.set(platform)
    try:
        yield
    finally:
        _platform.reset(token)


def convolve(
    x: Float[Array, 'b h w c'], kernel: Float[Array, 'k k c d'], dilation: int = 1, stride: int = 1
) -> Float[Array, 'b _ _ d']:
    """Convolve with zero padding, which keeps the size at stride 1.

    On a CPU, 1x1 convolutions are matrix products, and 3x3 convolutions at stride 1 take the fastest way: Winograd's
    algorithm in float32, or sums of taps at wide dilations, where taps that read only padding cost nothing. XLA's
    gradient of the kernel is never used there; it takes three times as long as this one. Products of bfloat16 are
    summed in float32, because only then does XLA use the bfloat16 units (AMX) of a CPU. Other platforms use XLA's
    convolution, a GPU in the forms of `convolve_gpu`.
    """
    size = kernel.shape[0]
    # With fewer channels a product per tap takes longer than XLA's convolution.
    enough = x.shape[-1] >= (128 if size == 3 and x.dtype == jnp.float32 else 16)
    platform = _platform.get() or jax.default_backend()
    if platform == 'gpu':
        return convolve_gpu.for_gpu(x, kernel, dilation, stride)
    elsewhere = partial(convolve_gpu.plain, dilation=dilation, stride=stride)
    if (
        platform not in ('cpu', 'any')
        or not enough
        or not (size == 1 or (size == 3 and stride == 1))
    ):
        return elsewhere(x, kernel)

    def on_cpu(x, kernel):
        return _fastest(x[:, ::stride, ::stride], kernel, dilation)

    if platform == 'cpu':
        return on_cpu(x, kernel)
    return jax.lax.platform_dependent(x, kernel, cpu=on_cpu, default=elsewhere)


def convolve_constant(
    vector: Float[Array, 'b c'],
    kernel: Float[Array, 'k k c d'],
    size: tuple[int, int],
    dilation: int = 1,
) -> Float[Array, 'b h w d']:
    """Convolve (stride 1, zero padding) a map of this size that has the vector at every position, in float32.

    Positions differ only in how many taps see the map rather than padding.
    """
    at_taps = jnp.einsum('bc,rscd->brsd', vector.astype(jnp.float32), kernel.astype(jnp.float32))
    reach = kernel.shape[0] // 2
    offsets = dilation * jnp.arange(-reach, reach + 1)

    def inside(n):
        return (jnp.abs(2 * (jnp.arange(n)[:, None] + offsets) - (n - 1)) < n).astype(jnp.float32)

    return jnp.einsum(
        'hr,ws,brsd->bhwd', inside(size[0]), inside(size[1]), at_taps, precision='highest'
    )


def _taps(shape, kernel, dilation):
    """(row, column) in the kernel and (down, right) in the map, of each tap that sees a part of the map."""
    reach = kernel.shape[0] // 2
    for row in range(kernel.shape[0]):
        for column in range(kernel.shape[1]):
            down, right = (row - reach) * dilation, (column - reach) * dilation
            if abs(down) < shape[1] and abs(right) < shape[2]:
                yield row, column, down, right


def _window(x, down, right):
    """Return the part of a map [B, h, w, ...] that a tap at this offset reads; the opposite offset gives its output."""
    height, width = x.shape[1:3]
    return x[:, max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)]


def _flat(x):
    """Flatten a map to a matrix [B*h*w, C]: XLA's products over several dimensions are slow on a CPU."""
    return x.reshape(-1, x.shape[-1])


def _sum_of_taps(x, kernel, dilation):
    total = 0
    for row, column, down, right in _taps(x.shape, kernel, dilation):
        seen = _window(x, down, right)
        product = jnp.dot(_flat(seen), kernel[row, column], preferred_element_type=jnp.float32)
        product = product.reshape(*seen.shape[:3], -1)
        margins = ((max(-down, 0), max(down, 0)), (max(-right, 0), max(right, 0)))
        total = total + jnp.pad(product, ((0, 0), *margins, (0, 0)))
    return total.astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _fastest(x, kernel, dilation):
    """Convolve with a custom backward pass: JAX's multiplies bfloat16 in float32, and XLA's kernel gradient is slow."""
    if x.shape[0] == 1 and x.shape[1] * x.shape[2] <= FEW and x.dtype == jnp.float32:
        return convolve_gpu.plain(x, kernel, dilation, stride=1)
    return _for_training(x, kernel, dilation)


def _for_training(x, kernel, dilation):
    if _by_winograd(x, kernel, dilation):
        return winograd.convolve(x, kernel, dilation)
    if kernel.shape[0] > 1:
        maps = _on_each_device(lambda own: _image_by_image(own, kernel, dilation), x)
        return maps.reshape(*x.shape[:3], -1)
    return _sum_of_taps(x, kernel, dilation)


def _by_winograd(x, kernel, dilation):
    """Whether Winograd's transformations (of x and of the result) cost little compared with its products."""
    return (
        x.dtype == jnp.float32
        and kernel.shape[0] == 3
        and dilation <= 2
        and min(kernel.shape[2:]) >= 128
    )


def _image_by_image(x, kernel, dilation):
    """Sum the taps image by image if they are many and large: the products of one image then stay in the cache."""
    return jax.lax.map(lambda image: _sum_of_taps(image[None], kernel, dilation)[0], x)


def _on_each_device(function, *arrays):
    """Apply a function to each device's part of the first axis: [devices, ...]; one part if it cannot be split."""
    devices = _devices.get()
    if devices == 1 or arrays[0].shape[0] % devices:
        return function(*arrays)[None]
    return jax.vmap(function)(*(x.reshape(devices, -1, *x.shape[1:]) for x in arrays))


def _forward(x, kernel, dilation):
    return _for_training(x, kernel, dilation), (x, kernel)


def _backward(dilation, saved, gradient):
    x, kernel = saved
    of_x = _for_training(gradient, jnp.swapaxes(kernel[::-1, ::-1], 2, 3), dilation)
    of_kernel = _on_each_device(
        lambda x, gradient: _kernel_gradient(x, gradient, kernel, dilation), x, gradient
    )
    return of_x, of_kernel.sum(0).astype(kernel.dtype)


def _kernel_gradient(x, gradient, kernel, dilation):
    if _by_winograd(x, kernel, dilation):
        return winograd.kernel_gradient(x, gradient, dilation)
    if x.dtype == jnp.bfloat16:
        return _kernel_gradient_transposed(x, gradient, kernel, dilation)
    return _kernel_gradient_by_taps(x, gradient, kernel, dilation)


_fastest.defvjp(_forward, _backward)


def _kernel_gradient_by_taps(x, gradient, kernel, dilation):
    """Sum the kernel's gradient image by image, like `_image_by_image`."""
    taps = list(_taps(x.shape, kernel, dilation))

    def add(totals, one):
        x, gradient = (array[None].astype(jnp.float32) for array in one)
        of_taps = [
            _flat(_window(x, down, right)).T @ _flat(_window(gradient, -down, -right))
            for _, _, down, right in taps
        ]
        return [total + product for total, product in zip(totals, of_taps, strict=True)], None

    totals, _ = jax.lax.scan(add, [jnp.zeros(kernel.shape[2:])] * len(taps), (x, gradient))
    return _placed(taps, jnp.stack(totals), kernel)


def _kernel_gradient_transposed(x, gradient, kernel, dilation):
    """Compute the kernel's gradient by products whose left factor is stored transposed, once for all taps.

    XLA uses the bfloat16 units of a CPU only for a left factor that is stored row by row, and it undoes a transposition
    unless a loop stands before the product: here the loop over the taps, or over halves of the output for one tap. A
    tap moves the gradient, with zeros around it, and not x: copying x with zeros between its rows takes seven times as
    long as transposing it.
    """
    taps = list(_taps(x.shape, kernel, dilation))
    margin = dilation * (kernel.shape[0] // 2)
    padded = jnp.pad(gradient, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    # As integers, because XLA would keep a loop's bfloat16 map in float32.
    padded = jax.lax.bitcast_convert_type(padded, jnp.uint16)
    transposed = jnp.moveaxis(x, -1, 0).reshape(x.shape[-1], -1)
    parts = 2 if len(taps) == 1 and gradient.shape[-1] % 2 == 0 else 1
    size = (*gradient.shape[:3], gradient.shape[-1] // parts)

    def product(start):
        moved = jax.lax.dynamic_slice(padded, (0, *start), size)
        moved = jax.lax.bitcast_convert_type(moved, jnp.bfloat16)
        return jnp.dot(transposed, _flat(moved), preferred_element_type=jnp.float32)

    starts = [
        (margin - down, margin - right, part * size[-1])
        for part in range(parts)
        for _, _, down, right in taps
    ]
    products = jax.lax.map(product, jnp.array(starts))
    if parts > 1:
        products = jnp.concatenate(products, -1)[None]
    return _placed(taps, products, kernel)


def _placed(taps, of_taps, kernel):
    """Place the gradients of taps [T, c, d] in the kernel's shape; the others are zero."""
    if len(taps) == kernel.shape[0] ** 2:
        return of_taps.reshape(kernel.shape)
    rows, columns, *_ = zip(*taps, strict=True)
    return jnp.zeros(kernel.shape).at[jnp.array(rows), jnp.array(columns)].set(of_taps)
