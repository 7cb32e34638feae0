"""Datasets of Minari are demonstrations of the environment that they were recorded in, and of no other."""

import contextlib
import itertools
import shutil
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from support.asserts import some
from support.recordings import columns, recorded, saved, to_goal, to_mark

from mbrl_ros.environments.adapter import FlatEnvironment
from mbrl_ros.errors import DemonstrationError
from mbrl_ros.runs.env_loop import EnvLoop
from mbrl_ros.runs.env_settings import EnvLoopConfig

SLIDER, WALLED, PARTS = (f'tiny_environments:tiny/{name}-v0' for name in ('Slider', 'Walled', 'Parts'))
SPARSE, CHORDS = (f'goal_environments:goal/{name}-v0' for name in ('Sparse', 'Chords'))
SEEDS = range(3)


@pytest.fixture(scope='module')
def minari():
    return pytest.importorskip('minari', reason='the extra minari is not installed; it needs Python 3.11')


def buffers(minari, arrays):
    """Episodes of a recording as the library wants them; some environments' `reset` tells success too, then it comes first."""
    ends = np.flatnonzero(arrays['terminations'] | arrays['truncations']) + 1
    for begin, end in itertools.pairwise([0, *ends]):
        obs = {name.removeprefix('observations/'): [*values[begin:end], arrays[f'next_{name}'][end - 1]]
               for name, values in arrays.items() if name.startswith('observations')}
        told = list(arrays['is_success'][begin:end])
        yield minari.data_collector.EpisodeBuffer(
            observations=obs.get('observations', obs), infos={'is_success': [False, *told] if len(obs) > 1 else told},
            **{name: list(arrays[name][begin:end]) for name in ('actions', 'rewards', 'terminations', 'truncations')})


@pytest.fixture(scope='module')
def root(minari, tmp_path_factory):
    """A folder with datasets of a slider and of goals."""
    folder = tmp_path_factory.mktemp('datasets')
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter('ignore')  # Of what a description of a dataset lacks.
        patch.setenv('MINARI_DATASETS_PATH', str(folder))
        for name, env_id, act in (('tiny/slide-v0', SLIDER, to_mark), ('tiny/goals-v0', SPARSE, to_goal)):
            env = gymnasium.make(env_id, disable_env_checker=True)
            env.unwrapped.spec.entry_point = 'of:Class'  # A dataset cannot keep the class itself.
            minari.create_dataset_from_buffers(name, list(buffers(minari, recorded(env_id, act, SEEDS))), env)
    return folder


@pytest.fixture
def datasets(root, tmp_path, monkeypatch):
    """A copy of the folder, for a test to change."""
    monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path / 'datasets'))
    return shutil.copytree(root, tmp_path / 'datasets')


def load(source, env_id=SLIDER):
    with contextlib.closing(EnvLoop(FlatEnvironment(env_id), EnvLoopConfig.from_mapping({}))) as loop:
        return loop.load_demonstrations([str(source)], seed=0)


@pytest.mark.parametrize(('name', 'env_id', 'act'), [('tiny/slide-v0', SLIDER, to_mark), ('tiny/goals-v0', SPARSE, to_goal)])
def test_a_dataset_teaches_what_a_file_of_the_same_steps_teaches(name, env_id, act, datasets, tmp_path):
    shown = load(f'minari:{name}', env_id)
    from_file = load(saved(tmp_path / 'demos.npz', recorded(env_id, act, SEEDS)), env_id)
    np.testing.assert_equal(columns(shown), columns(from_file))
    assert [(one.success, one.episode_return) for one in shown] == [(one.success, one.episode_return) for one in some(from_file)]
    np.testing.assert_equal(columns(load(f'minari:{datasets / name}', env_id)), columns(shown))


@pytest.mark.parametrize(('name', 'text'), [
    ('tiny/slides-v0', "there is no local dataset of this id, nor a folder of one; did you mean 'tiny/slide-v0'?"),
    ('human/door-v2', 'there is no local dataset of this id, nor a folder of one; known: tiny/goals-v0, tiny/slide-v0'),
    ('', 'there is no local dataset of this id, nor a folder of one; known: tiny/goals-v0'),
    ('tiny/goals-v0', 'is of goal/Sparse-v0 with observations Dict(')])
def test_a_dataset_that_is_none_of_the_environment_is_refused(name, text, datasets):
    with pytest.raises(DemonstrationError) as refusal:
        load(f'minari:{name}')
    assert str(refusal.value).startswith(f'minari:{name}: {text}') and '\n' not in str(refusal.value)


@pytest.mark.parametrize(('env_id', 'fits'), [(WALLED, True), (PARTS, False), (CHORDS, False)])
def test_another_environment_has_to_have_the_same_spaces(env_id, fits, datasets):
    refused = pytest.raises(DemonstrationError, match='is of tiny/Slider-v0 with observations .*; .* has observations')
    with contextlib.nullcontext() if fits else refused:
        load('minari:tiny/slide-v0', env_id)


def test_where_there_is_no_dataset_it_is_said_how_to_get_one(minari, tmp_path, monkeypatch):
    monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path))
    with pytest.raises(DemonstrationError, match=f'nor a folder of one; {tmp_path} holds none, `minari download` fetches one'):
        load('minari:tiny/slide-v0')


@pytest.mark.parametrize('damage', ['main_data.hdf5', 'metadata.json'])
def test_a_damaged_dataset_is_refused(damage, datasets):
    (datasets / 'tiny' / 'slide-v0' / 'data' / damage).write_text('{')
    with pytest.raises(DemonstrationError, match=r'slide-v0: cannot be read \(\w+: '):
        load(f'minari:{datasets}/tiny/slide-v0')


def test_what_a_dataset_needs_is_told_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, 'minari', None)
    with pytest.raises(DemonstrationError, match=r"slide-v0: Minari cannot be imported \(.*\): pip install 'minari\[hdf5"):
        load('minari:tiny/slide-v0')
