"""The package's own launch files, run by `mbrl-ros launch` as a person would."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sensor_msgs.msg import JointState
from support.asserts import some
from support.bench import NodeBench
from support.live_stack import Launch

from mbrl_ros.launching import description, executables
from mbrl_ros.resources import share_directory

_FILES = sorted(path.name for path in (share_directory() / 'launch').glob('*.launch.yaml'))
_REQUIRED = {'stack.launch.yaml': {'driver': 'simulated'}}


def resolve(name: str, folder: Path, **given: str) -> list[description.ProcessSpec]:
    environment = executables.ros_environment(os.environ)
    return description.resolve(share_directory() / 'launch' / name, {**_REQUIRED.get(name, {}), **given}, environment, folder)


@pytest.mark.parametrize('name', _FILES)
def test_every_argument_is_described_and_every_flag_has_choices(name):
    for argument in some(description.declared_arguments(share_directory() / 'launch' / name, {})):
        assert argument.description.endswith('.'), argument.name
        if argument.default and argument.default.parts in (('true',), ('false',)):
            assert set(argument.choices) == {'true', 'false'}, argument.name


@pytest.mark.parametrize('name', ['demo.launch.yaml', 'demo_grasp.launch.yaml', 'demonstrate.launch.yaml', 'stack.launch.yaml'])
def test_the_controller_is_started_last_so_that_the_arm_stops_first_and_the_guard_before_all_that_commands(name, tmp_path):
    started = [spec.name.rpartition('-')[0] for spec in resolve(name, tmp_path)]
    assert started[-1] == 'mpc_controller'
    assert set(started[:started.index('command_guard')]) <= {'arm_simulator'}


@pytest.mark.parametrize('name', _FILES)
def test_no_node_outlives_a_launch_that_is_killed(name, tmp_path):
    for spec in some(resolve(name, tmp_path)):
        assert spec.environment[executables.END_WITH_PARENT_VARIABLE] == '1', spec.name


def test_the_demo_runs_all_nodes_but_those_that_demonstrate_and_ends_with_its_episode_manager(tmp_path):
    specs = resolve('demo.launch.yaml', tmp_path)
    others = {'scripted_demonstrator', 'keyboard_teleop'}
    assert {spec.name.rpartition('-')[0] for spec in specs} == set(executables.NODES) - others
    assert [spec.name.rpartition('-')[0] for spec in specs if spec.required] == ['episode_manager']
    assert all(spec.respawn for spec in some(spec for spec in specs if not spec.required))


def test_the_grasp_demo_sets_the_table_and_gives_its_task_to_all_who_have_one(tmp_path):
    resolved = resolve('demo_grasp.launch.yaml', tmp_path, task='pick_place')
    specs = {spec.name.rpartition('-')[0]: spec.command for spec in resolved}
    assert {name for name, command in specs.items() if 'task:="pick_place"' in command} == {
        'command_guard', 'model_trainer', 'mpc_controller', 'episode_manager'}
    assert 'model:="pick_place"' in specs['model_trainer']
    assert {'tabletop:=true', 'video_path:="runs/demo-grasp/episodes.gif"'} <= set(specs['arm_simulator'])


@pytest.mark.parametrize('word', ['none', ''])
def test_a_word_stands_for_no_model_and_no_video_as_an_empty_text_does(tmp_path, word):
    resolved = resolve('demo_grasp.launch.yaml', tmp_path, model=word, video_path=word)
    specs = {spec.name.rpartition('-')[0]: spec.command for spec in resolved}
    assert 'model:=""' in specs['model_trainer']
    assert 'video_path:=""' in specs['arm_simulator']


@pytest.mark.parametrize(('demonstrator', 'awaited', 'launched'), [
    ('scripted', 'scripted_demonstrator', True), ('keyboard', 'keyboard_teleop', False)])
def test_episodes_wait_for_whoever_demonstrates_whether_launched_or_not(tmp_path, demonstrator, awaited, launched):
    found = resolve('demonstrate.launch.yaml', tmp_path, demonstrator=demonstrator)
    specs = {spec.name.rpartition('-')[0]: spec for spec in found}
    [waits] = [word for word in specs['episode_manager'].command if word.startswith('wait_for:=')]
    assert waits == f'wait_for:=["command_guard", "mpc_controller", "experience_logger", "{awaited}"]'
    assert (awaited in specs) is launched


def test_the_stack_without_an_end_brings_every_node_back(tmp_path):
    assert all(spec.respawn and not spec.required for spec in some(resolve('stack.launch.yaml', tmp_path)))


def test_one_namespace_moves_the_whole_stack(tmp_path):
    for spec in some(resolve('demo.launch.yaml', tmp_path, namespace='/left')):
        assert '__ns:=/left' in spec.command


@pytest.fixture
def bench():
    bench = NodeBench()
    yield bench
    bench.close()


def test_the_simulated_arm_comes_up_comes_back_after_a_kill_and_goes_on_interrupt(deaf, bench, tmp_path):
    states = bench.hear(JointState, 'lab/joint_states')
    launch = Launch(tmp_path / 'screen', 'sim.launch.yaml', 'namespace:=/lab', before=deaf)
    try:
        bench.spin_until(lambda: states)
        assert 'panda_joint1' in states[0].name
        launch.signal('arm_simulator', signal.SIGKILL)
        bench.spin_until(lambda: len(launch.pids()) == 2)
        states.clear()
        bench.spin_until(lambda: states)
        assert launch.interrupt()[0] == 130
        assert 'has finished cleanly' in launch.text()
    finally:
        launch.close()


def test_nodes_end_by_themselves_when_their_supervisor_is_killed(bench, tmp_path):
    states = bench.hear(JointState, 'lost/joint_states')
    launch = Launch(tmp_path / 'screen', 'sim.launch.yaml', 'namespace:=/lost')
    bench.spin_until(lambda: states)
    launch.kill()
    [pid] = launch.pids()
    bench.spin_until(lambda: not Path(f'/proc/{pid}').exists())


def test_a_launch_ends_with_what_started_it_where_the_environment_says_so(tmp_path):
    command = [sys.executable, '-m', 'mbrl_ros.cli.main', 'launch', 'sim.launch.yaml']
    starter = subprocess.Popen([sys.executable, '-c', f'import subprocess; subprocess.Popen({command}).wait()'], text=True,
                               stdout=subprocess.PIPE, env={**os.environ, executables.END_WITH_PARENT_VARIABLE: '1'})
    while 'process started with pid' not in starter.stdout.readline():
        assert starter.poll() is None
    starter.kill()
    rest, _ = starter.communicate(timeout=60)  # The launch and its node hold the pipe too, so that their end is waited for.
    assert 'stopping (SIGINT)' in rest
