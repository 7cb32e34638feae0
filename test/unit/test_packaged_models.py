"""The models of the package: what `make demo-grasp` begins with fits the tasks as they are, and says where it comes from."""

import re

import pytest

from mbrl_ros.agents.bundle import AgentBundle, Contract
from mbrl_ros.agents.pets import PetsLearner, PetsLearnerConfig
from mbrl_ros.experience.saved import SavedExperience, saved_experience_path
from mbrl_ros.resources import model_file
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.task_settings import TaskLoopConfig
from mbrl_ros.tasks.registry import make_task

LARGEST_BYTES = 5_000_000
every_model = pytest.mark.parametrize('name', ['lift', 'pick_place', 'push'])


@every_model
def test_a_model_fits_its_task_as_it_is_set(name):
    task = make_task(name, load_robot('panda'))
    contract = Contract.of('pets', task.space, robot='panda', task=name,
                           period_s=1.0 / TaskLoopConfig.of_task(name).control_rate_hz)
    bundle = AgentBundle.load(model_file(name))
    bundle.card.check_fits(contract)
    PetsLearner(contract, task.space, PetsLearnerConfig()).resume(bundle)


@every_model
def test_beside_a_model_lies_all_that_it_was_learned_from(name):
    path, task = model_file(name), make_task(name, load_robot('panda'))
    card = AgentBundle.load(path).card
    before = SavedExperience.load(path, task.obs_size, task.action_size)
    assert len(before.transitions.obs) >= len(before.learned_stamp_ns) == card.num_transitions == card.real_steps


@every_model
def test_a_model_and_its_experience_are_small(name):
    path = model_file(name)
    assert path.stat().st_size + saved_experience_path(path).stat().st_size < LARGEST_BYTES


@every_model
def test_the_card_of_a_model_names_command_steps_and_figures(name):
    path = model_file(name)
    text, steps = path.with_suffix('.md').read_text(), AgentBundle.load(path).card.real_steps
    assert f'mbrl-ros learn --task {name} ' in text
    assert f'{steps:,}' in text
    assert re.search(r'commit [0-9a-f]{7}', text)
    assert re.search(r'\d+ of 100', text)
