"""The command line over launch files: what it lists, what it refuses, which codes it ends with."""

import importlib.metadata
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mbrl_ros.cli.launch import argument_help
from mbrl_ros.errors import LaunchError
from mbrl_ros.launching import description, executables


def command(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-m', 'mbrl_ros.cli.main', *words], capture_output=True, text=True, timeout=100)


def test_every_argument_is_listed_with_description_choices_and_default(tmp_path):
    path = tmp_path / 'a.launch.yaml'
    path.write_text('''launch:
- arg: {name: robot, default: panda, description: The arm., choice: [{value: panda}, {value: iiwa}]}
- arg: {name: where, default: $(env HOME /root)/x}
- arg: {name: needed, description: No default.}
''')
    listing = argument_help(description.declared_arguments(path, {}))
    assert listing == '''Arguments (pass arguments as '<name>:=<value>'):

    'robot':
        The arm. Valid choices are: ['panda', 'iiwa']
        (default: 'panda')

    'where':
        no description given
        (default: '$(env HOME /root)/x')

    'needed':
        No default.'''


def test_a_file_without_arguments_says_so():
    assert argument_help([]).endswith('No arguments.')


def test_a_launch_file_is_found_by_name_or_path_and_else_the_names_are_listed(tmp_path):
    own = tmp_path / 'own.launch.yaml'
    own.touch()
    assert description.find_file(str(own)) == own
    assert description.find_file('demo.launch.yaml') == description.find_file('demo')
    with pytest.raises(LaunchError, match=r"no launch file 'dmo'; the package has demo\.launch\.yaml, .*sim\.launch\.yaml"):
        description.find_file('dmo')


def test_a_command_that_there_is_not_is_answered_with_the_nearest_and_the_version_is_told():
    def said(*words):
        done = subprocess.run([sys.executable, '-m', 'mbrl_ros.cli.main', *words], capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    assert said('lern') == (2, "error: there is no command 'lern'; did you mean 'learn'?\n")
    assert said('--version') == (0, f'mbrl-ros {importlib.metadata.version("mbrl_ros")}\n')


def test_exit_code_and_error_line_reach_the_shell(tmp_path):
    path = tmp_path / 'a.launch.yaml'
    path.write_text(f'''launch:
- arg: {{name: code, default: "0"}}
- executable: {{cmd: "{sys.executable} -c 'raise SystemExit($(var code))'", on_exit: shutdown}}
''')
    assert [command('launch', str(path), f'code:={code}').returncode for code in (0, 7)] == [0, 7]
    refused = command('launch', str(path), 'cod:=1')
    assert refused.returncode == 2
    assert refused.stderr.strip() == "error: a.launch.yaml has no argument 'cod'; did you mean 'code'?"


def test_an_unknown_node_is_refused_with_the_names_that_exist():
    refused = command('run', 'mpc_controler')
    assert refused.returncode == 2
    assert refused.stderr.strip() == "error: there is no node 'mpc_controler'; did you mean 'mpc_controller'?"


def test_every_subcommand_explains_itself():
    for name in ('launch', 'run', 'bag', 'bench'):
        assert 'Usage' in command(name, '--help').stdout


def test_the_wheels_prefix_is_added_once_and_what_the_user_set_stays(tmp_path):
    (tmp_path / 'share' / 'ament_index').mkdir(parents=True)
    base = {'AMENT_PREFIX_PATH': '/opt/other', 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SUBNET', 'LD_LIBRARY_PATH': ''}
    first = executables.ros_environment(base, tmp_path)
    assert first['AMENT_PREFIX_PATH'] == f'/opt/other{os.pathsep}{tmp_path}'
    assert first['LD_LIBRARY_PATH'] == str(tmp_path / 'lib')
    assert first['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'SUBNET'
    assert executables.ros_environment(first, tmp_path) == first


def test_without_the_wheels_only_defaults_are_added(tmp_path):
    found = executables.ros_environment({}, tmp_path)
    profiles = Path(found.pop('FASTDDS_DEFAULT_PROFILES_FILE'))
    assert '<address>127.0.0.1</address>' in profiles.read_text()
    assert found == {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SYSTEM_DEFAULT', 'PYTHONUNBUFFERED': '1'}


@pytest.mark.parametrize(('name', 'value'), [
    ('RMW_IMPLEMENTATION', 'rmw_cyclonedds_cpp'), ('ROS_STATIC_PEERS', '10.0.0.2'),
    ('FASTDDS_DEFAULT_PROFILES_FILE', 'mine.xml')])
def test_a_network_that_the_user_arranged_stays_as_it_is(tmp_path, name, value):
    found = executables.ros_environment({name: value}, tmp_path)
    assert found == {name: value, 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST', 'PYTHONUNBUFFERED': '1'}


def test_an_executable_of_another_package_is_found_under_the_ament_prefixes(tmp_path):
    tool = tmp_path / 'lib' / 'other' / 'tool'
    tool.parent.mkdir(parents=True)
    tool.write_text('#!/bin/sh\n')
    tool.chmod(0o755)
    environment = {'AMENT_PREFIX_PATH': f'/nowhere{os.pathsep}{tmp_path}'}
    assert executables.command('other', 'tool', environment) == [str(tool)]
    with pytest.raises(LaunchError, match="other has no executable 'tol'; did you mean 'tool'"):
        executables.command('other', 'tol', environment)


def test_a_node_does_not_start_for_a_supervisor_that_has_ended():
    environment = {**os.environ, executables.SUPERVISOR_VARIABLE: '1' if os.getpid() != 1 else '2'}
    late = subprocess.run([sys.executable, '-m', 'mbrl_ros.cli.node', 'mpc_controller'], capture_output=True, text=True,
                          env=environment, timeout=60)
    assert late.returncode == 1
    assert 'has ended; not starting' in late.stderr


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='asks the kernel of Linux')
def test_a_node_of_a_launch_file_ends_with_whatever_started_it():
    command = [sys.executable, '-m', 'mbrl_ros.cli.node', 'model_trainer']
    script = f'import subprocess; node = subprocess.Popen({command}); print(node.pid, flush=True); node.wait()'
    starter = subprocess.Popen(
        [sys.executable, '-c', script],
        stdout=subprocess.PIPE, text=True, env={**os.environ, executables.END_WITH_PARENT_VARIABLE: '1'})
    node = Path('/proc') / starter.stdout.readline().strip()
    while 'mbrl_ros' not in (node / 'cmdline').read_text() or 'libtorch' not in (node / 'maps').read_text():
        time.sleep(0.01)  # By then it has asked.
    starter.kill()
    starter.communicate(timeout=60)  # The node holds the pipe too, so that its end is waited for.
    assert not (node / 'maps').exists() or not (node / 'maps').read_text()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_node_that_is_still_loading_when_it_is_stopped_ends_as_quietly_as_later(deaf, number, tmp_path):
    node = subprocess.Popen([*deaf, sys.executable, '-m', 'mbrl_ros.cli.node', 'model_trainer'],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    while node.poll() is None and 'libtorch' not in Path(f'/proc/{node.pid}/maps').read_text():
        time.sleep(0.01)
    node.send_signal(number)
    _, errors = node.communicate(timeout=60)
    assert node.returncode == 0
    assert 'Traceback' not in errors


def test_the_files_of_the_package_are_found_from_anywhere(tmp_path):
    words = [sys.executable, '-c', 'from mbrl_ros.resources import share_directory; print(share_directory())']
    printed = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    assert (Path(printed) / 'launch' / 'demo.launch.yaml').is_file()
