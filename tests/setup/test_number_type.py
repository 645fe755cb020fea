"""model.dtype='auto': timed once a machine, and kept by runs and sweeps that began in one type."""

from configs import simpropnet
from simpropnet_jax.config import rules
from simpropnet_jax.setup import number_type, refusals
from simpropnet_jax.setup.run import store_config
from simpropnet_jax.sweeps import sweep
from simpropnet_jax.sweeps.rows import Row


def test_the_faster_type_is_timed_once_a_machine(tmp_path, monkeypatch, caplog):
    caplog.set_level('INFO')
    monkeypatch.setenv('SIMPROPNET_CACHE', str(tmp_path))
    monkeypatch.setattr(number_type, 'SHAPE', (1, 5, 5, 4))
    assert number_type._seconds('bfloat16') > 0
    seconds, timed = {'float32': 0.2, 'bfloat16': 0.1}, []

    def time_it(name):
        timed.append(name)
        return seconds[name]

    monkeypatch.setattr(number_type, '_seconds', time_it)
    assert [number_type.faster() for _ in range(2)] == ['bfloat16'] * 2
    assert timed == ['float32', 'bfloat16']
    assert '200 ms in float32 and 100 ms in bfloat16' in caplog.text
    (kept,) = tmp_path.rglob('*.json')
    kept.write_text(kept.read_text().replace('bfloat16', 'float16'))  # damaged
    seconds['float32'] = 0.05
    assert [number_type.faster() for _ in range(2)] == ['float32'] * 2
    monkeypatch.setattr('jax.default_backend', lambda: 'gpu')
    assert number_type.faster() == 'bfloat16' and len(timed) == 4


def test_a_run_and_a_sweep_keep_the_type_that_they_began_in(tmp_path, monkeypatch):
    monkeypatch.setattr(number_type, 'faster', lambda: 'float32')
    config = simpropnet.get_config('fold=1,cpu')
    config.train.batch = 8
    assert config.model.dtype == 'auto'
    (first,) = sweep._of_one_type({'first': Row('first', config)}, tmp_path).values()
    assert first.config.model.dtype == 'float32'
    stored = rules.ConfigDict(config.to_dict())
    stored.model.dtype, stored.model.convention = 'bfloat16', 'keras'
    store_config(stored, tmp_path / 'before')
    assert refusals.check_config(config, tmp_path / 'before').model.dtype == 'bfloat16'
    (second,) = sweep._of_one_type({'second': Row('second', config)}, tmp_path).values()
    assert second.config.model.dtype == 'bfloat16'
