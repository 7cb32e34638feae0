"""Wrong settings given to the nodes' processes as a person would: exit code 2 and one line that names what and where."""

import subprocess
import sys

import pytest

from mbrl_ros.launching.executables import NODES
from mbrl_ros.resources import share_directory

TIMEOUT_S = 60.0


def refuse(node: str, *arguments: str) -> str:
    """The one line that a node ends with."""
    command = [sys.executable, '-m', 'mbrl_ros.cli.node', node, '--ros-args', *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 2, done.stderr
    # What the controller runs with comes first, and PyBullet greets whoever imports it.
    lines = [line for line in done.stderr.splitlines() if 'configuration: ' not in line and 'pybullet build time' not in line]
    assert len(lines) == 1, done.stderr
    return lines[0]


OUT_OF_RANGE = {
    'arm_simulator': ('command_rate_hz', '-1.0'), 'state_estimator': ('rate_hz', '0.0'),
    'experience_logger': ('recorder.max_split_mb', '-5.0'), 'model_trainer': ('learner.trainer.ensemble.ensemble_size', '0'),
    'command_guard': ('guard.command_periods', '0.5'), 'mpc_controller': ('planner.horizon', '0'),
    'episode_manager': ('episodes.max_episode_steps', '0'),
    'scripted_demonstrator': ('noise_std', '-0.5'), 'keyboard_teleop': ('rate_hz', '0.0'),
}


def test_every_node_is_tried():
    assert set(OUT_OF_RANGE) == set(NODES)


@pytest.mark.parametrize('node', NODES)
def test_a_parameter_out_of_range_is_named_with_its_value_and_range(node):
    name, value = OUT_OF_RANGE[node]
    line = refuse(node, '-p', f'{name}:={value}')
    assert line.startswith('error: ')
    for part in (node, name, value):
        assert part in line


@pytest.mark.parametrize('node', ['arm_simulator', 'experience_logger', 'episode_manager'])
def test_an_unknown_parameter_is_named_with_what_may_be_meant(node):
    assert refuse(node, '-p', 'sed:=1').startswith(f"error: {node}: unknown parameter 'sed'")


@pytest.mark.parametrize(('node', 'kind', 'profile', 'key'), [
    ('state_estimator', 'robot', 'robots/panda.yaml', 'home_rad'),
    ('mpc_controller', 'robot', 'robots/panda.yaml', 'home_rad'),
    ('command_guard', 'driver', 'drivers/simulated.yaml', 'command_topic'),
    ('episode_manager', 'driver', 'drivers/simulated.yaml', 'command_type'),
])
def test_a_typo_in_a_profile_is_named_with_its_file(tmp_path, node, kind, profile, key):
    path = tmp_path / 'typo.yaml'
    text = (share_directory() / 'config' / profile).read_text()
    path.write_text(text.replace(f'{key}:', f'{key}s:'))
    line = refuse(node, '-p', f'{kind}:={path}')
    assert str(path) in line
    assert f'{key}s' in line


@pytest.mark.parametrize('node', ['model_trainer', 'mpc_controller'])
def test_an_unknown_agent_is_named_with_what_may_be_meant(node):
    assert refuse(node, '-p', 'agent:=pest') == "error: there is no agent 'pest'; did you mean 'pets'?"


@pytest.mark.parametrize('node', ['model_trainer', 'mpc_controller'])
def test_an_agent_with_tables_has_nothing_to_do_with_an_arm(node):
    assert "the agent 'dyna_q' has a table of states and actions" in refuse(node, '-p', 'agent:=dyna_q')


def test_a_model_of_another_task_is_named():
    line = refuse('model_trainer', '-p', 'task:=lift', '-p', 'model:=push')
    assert line.startswith('error: ') and "'push'" in line


def test_a_typo_in_a_parameter_file_is_named(tmp_path):
    path = tmp_path / 'parameters.yaml'
    path.write_text('state_estimator:\n  ros__parameters:\n    rate_hertz: 50.0\n')
    assert refuse('state_estimator', '--params-file', str(path)) == \
        "error: state_estimator: unknown parameter 'rate_hertz'; did you mean 'rate_hz'?"
