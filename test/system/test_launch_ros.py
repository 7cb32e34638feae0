"""The launch files under ROS 2's own launch, where it is installed: the same arguments and parameters as under this package's."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from support import ros_prefix
from support.asserts import some

pytest.importorskip('launch_ros', reason="ROS 2's own launch (launch_ros) is not installed")

from launch.launch_description_sources import AnyLaunchDescriptionSource  # noqa: E402

import launch  # noqa: E402
from mbrl_ros.launching import description  # noqa: E402
from mbrl_ros.resources import share_directory  # noqa: E402

_FOLDER = share_directory() / 'launch'


@pytest.fixture(scope='module', autouse=True)
def installed(tmp_path_factory):
    """Whether or not the package is installed, ROS 2's own launch finds this one."""
    with pytest.MonkeyPatch.context() as patch:
        environment = ros_prefix.install(tmp_path_factory.mktemp('prefix'), os.environ)
        patch.setenv('AMENT_PREFIX_PATH', environment['AMENT_PREFIX_PATH'])
        yield


@pytest.mark.parametrize('name', sorted(path.name for path in _FOLDER.glob('*.launch.yaml')))
def test_ros_2_launch_reads_the_same_arguments(name):
    theirs = AnyLaunchDescriptionSource(str(_FOLDER / name)).get_launch_description(launch.LaunchContext())
    ours = {argument.name: argument for argument in description.declared_arguments(_FOLDER / name, os.environ)}
    for argument in some(theirs.get_launch_arguments()):
        if argument.name in ours:
            assert argument.description.startswith(ours[argument.name].description)
            assert tuple(argument.choices or ()) == ours[argument.name].choices
    assert set(ours) <= {argument.name for argument in theirs.get_launch_arguments()}


#: In place of each node: keeps what it was given, and waits.
_STAND_IN = """#!{python}
import json, pathlib, signal, sys
import yaml

signal.signal(signal.SIGINT, lambda *_: sys.exit())
files = [name for word, name in zip(sys.argv, sys.argv[1:]) if word == '--params-file']
parts = [yaml.safe_load(pathlib.Path(name).read_text())['/**']['ros__parameters'] for name in files]
given = {{name: value for part in parts for name, value in part.items()}}
namespaces = [word for word in sys.argv if word.startswith('__ns:=')]
path = pathlib.Path(__file__).with_suffix('.json')
path.with_suffix('.part').write_text(json.dumps([given, namespaces]))
path.with_suffix('.part').rename(path)
signal.pause()
"""
_RUN = """
import sys
import launch
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import AnyLaunchDescriptionSource

given = [tuple(word.split(':=', 1)) for word in sys.argv[2:]]
included = IncludeLaunchDescription(AnyLaunchDescriptionSource(sys.argv[1]), launch_arguments=given)
service = launch.LaunchService(noninteractive=True)
service.include_launch_description(launch.LaunchDescription([included]))
sys.exit(service.run())
"""


@pytest.mark.parametrize('words', [
    'sim.launch.yaml simulator:=mujoco tabletop:=true command_rate_hz:=60.0 video_path:=none seed:=1 gui:=true',
    'stack.launch.yaml driver:=franka task:=push actions:=joints learning:=false episodes:=2 seed:=1 namespace:=/left',
    'stack.launch.yaml driver:=simulated model:=lift rate_hz:=5 device:=cpu exit_when_finished:=true wait_for_operator:=true',
    'demo.launch.yaml robot:=iiwa agent:=other episodes:=2 seed:=1 lockstep:=false namespace:=/right log_level:=debug',
    'demo_grasp.launch.yaml task:=push model:=none video_path:=none changed_mass:=[1.0,2.0]',
    'demonstrate.launch.yaml task:=push episodes:=2',
    'demonstrate.launch.yaml demonstrator:=keyboard seed:=7'])
def test_ros_2_launch_gives_every_node_the_same_parameters(tmp_path, words):
    name, *given = words.split()
    specs = description.resolve(_FOLDER / name, description.parse_given(given), os.environ, tmp_path)
    ours = {}
    for spec in specs:
        pairs = [word.split(':=', 1) for flag, word in zip(spec.command, spec.command[1:]) if flag == '-p']
        namespaces = [word for word in spec.command if word.startswith('__ns:=')]
        ours[spec.name.rpartition('-')[0]] = [{key: yaml.safe_load(value) for key, value in pairs}, namespaces]
    environment = ros_prefix.install(tmp_path / 'prefix', os.environ, _STAND_IN)
    nodes = tmp_path / 'prefix' / 'lib' / 'mbrl_ros'
    process = subprocess.Popen([sys.executable, '-c', _RUN, str(_FOLDER / name), *given], env=environment)
    try:
        end_s = time.monotonic() + 90.0
        while {path.stem for path in nodes.glob('*.json')} != set(ours):
            assert process.poll() is None and time.monotonic() < end_s, 'waited in vain'
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
    theirs = {path.stem: json.loads(path.read_text()) for path in nodes.glob('*.json')}
    # As text, which tells 1, 1.0 and true apart.
    assert json.dumps(theirs, indent=1, sort_keys=True) == json.dumps(ours, indent=1, sort_keys=True)
