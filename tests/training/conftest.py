"""Trainings that share what JAX traces: in a small training, tracing takes most of the time."""

import json

import pytest

from simpropnet_jax.runtime import sharding
from simpropnet_jax.training import loop


@pytest.fixture(scope='module')
def traced_once():
    """Let the trainings of a module share steps and selections if their configs and devices are equal.

    Call the fixture's value to forget them. The next training then traces again, as a new process does.
    """
    known = {}

    def shared(make, *unused):
        def call(run, *rest):
            fields = {k: v for k, v in run.config.to_dict().items() if k not in unused}
            key = make, sharding.make_mesh(), json.dumps(fields, sort_keys=True)
            if key not in known:
                known[key] = make(run, *rest)
            return known[key]

        return call

    with pytest.MonkeyPatch.context() as patch:
        prepare_trainer = shared(loop.prepare_trainer, 'select', 'eval')
        patch.setattr(loop, 'prepare_trainer', prepare_trainer)
        patch.setattr(loop, 'Selection', shared(loop.Selection))
        yield known.clear
