"""How tests compile: XLA's flags, which commands that tests start get, too."""

QUICKLY = (
    '--xla_cpu_use_fusion_emitters=false'  # a large step then compiles in a quarter of the time
)


def for_devices(count: int) -> str:
    """XLA_FLAGS for this many virtual CPU devices."""
    return f'{QUICKLY} --xla_force_host_platform_device_count={count}'
