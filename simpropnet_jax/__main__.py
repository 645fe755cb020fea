"""The command `simpropnet`, for `python -m simpropnet_jax`."""

import sys

from simpropnet_jax.cli.main import main

if __name__ == '__main__':
    sys.exit(main())
