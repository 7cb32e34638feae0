"""Commands that start the nodes of a package, and the environment in which they find the ROS 2 libraries."""

import ctypes
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from mbrl_ros.config import suggestion
from mbrl_ros.errors import LaunchError
from mbrl_ros.resources import PACKAGE, share_directory

#: The nodes of this package: executable name to `module:Class`.
NODES = {
    'arm_simulator': 'mbrl_sim.arm_simulator_node:ArmSimulatorNode',
    'state_estimator': 'mbrl_ros.nodes.state_estimator_node:StateEstimatorNode',
    'experience_logger': 'mbrl_ros.nodes.experience_logger_node:ExperienceLoggerNode',
    'model_trainer': 'mbrl_ros.nodes.model_trainer_node:ModelTrainerNode',
    'mpc_controller': 'mbrl_ros.nodes.mpc_controller_node:MpcControllerNode',
    'episode_manager': 'mbrl_ros.nodes.episode_manager_node:EpisodeManagerNode',
    'scripted_demonstrator': 'mbrl_ros.nodes.scripted_demonstrator_node:ScriptedDemonstratorNode',
    'keyboard_teleop': 'mbrl_ros.nodes.keyboard_teleop_node:KeyboardTeleopNode',
}

#: Process ID of the supervisor, which sets it; a node ends when this process ends.
SUPERVISOR_VARIABLE = 'MBRL_SUPERVISOR_PID'
#: If set, a node or command ends when its parent ends; the launch files set it, because ROS 2's own launch gives no process ID.
END_WITH_PARENT_VARIABLE = 'MBRL_END_WITH_PARENT'
_PR_SET_PDEATHSIG = 1


def command(package: str, executable: str, environment: Mapping[str, str]) -> list[str]:
    """Command line of `executable` of `package`; nodes of this package run with this process's interpreter.

    Raises:
        LaunchError: There is no such package or executable; the text suggests the closest name.
    """
    if package == PACKAGE:
        if executable not in NODES:
            raise LaunchError(f'{PACKAGE} has no executable {executable!r}{suggestion(executable, NODES)}')
        return [sys.executable, '-m', 'mbrl_ros.cli.node', executable]
    for prefix in filter(None, environment.get('AMENT_PREFIX_PATH', '').split(os.pathsep)):
        folder = Path(prefix) / 'lib' / package
        if os.access(folder / executable, os.X_OK):
            return [str(folder / executable)]
        if folder.is_dir():
            known = sorted(path.name for path in folder.iterdir() if os.access(path, os.X_OK))
            raise LaunchError(f'{package} has no executable {executable!r}{suggestion(executable, known)}')
    raise LaunchError(f'there is no ROS package {package!r} with executables')


def ros_environment(base: Mapping[str, str], prefix: Path = Path(sys.prefix)) -> dict[str, str]:
    """Environment for ROS processes: `base`, completed with the variables that the ROS 2 wheels need.

    Args:
        base: Environment so far; its variables stay set.
        prefix: Root of the Python environment that may contain the wheels.
    """
    found = dict(base)
    if (prefix / 'share' / 'ament_index').is_dir():
        found['AMENT_PREFIX_PATH'] = _with(found.get('AMENT_PREFIX_PATH', ''), prefix)
        found['LD_LIBRARY_PATH'] = _with(found.get('LD_LIBRARY_PATH', ''), prefix / 'lib')
    # By default no other machine can talk to a stack that commands an arm.
    found.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    if found['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST' and _uses_stock_fast_dds(found):
        # The same range, with a transport that survives a killed process; the file explains it.
        found['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'SYSTEM_DEFAULT'
        found['FASTDDS_DEFAULT_PROFILES_FILE'] = str(share_directory() / 'config' / 'dds' / 'this_machine.xml')
    found.setdefault('PYTHONUNBUFFERED', '1')
    return found


def end_with_parent() -> None:
    """If one of the two variables above is set, let the kernel send SIGINT to this process when its parent ends."""
    if sys.platform.startswith('linux') and not os.environ.keys().isdisjoint({SUPERVISOR_VARIABLE, END_WITH_PARENT_VARIABLE}):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def _uses_stock_fast_dds(environment: Mapping[str, str]) -> bool:
    """Whether Fast DDS is in use and no variable configures its discovery."""
    arranged = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE', 'ROS_DISCOVERY_SERVER', 'ROS_STATIC_PEERS')
    return environment.get('RMW_IMPLEMENTATION') in (None, '', 'rmw_fastrtps_cpp') and not any(map(environment.get, arranged))


def _with(paths: str, entry: Path) -> str:
    entries = [path for path in paths.split(os.pathsep) if path]
    return os.pathsep.join(entries if str(entry) in entries else [*entries, str(entry)])
