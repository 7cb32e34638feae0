"""Every process that runs tests is alone: its own ROS domain, log folder and process group, nothing from or to the network."""

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from mbrl_ros.launching.domain import OwnDomain
from mbrl_ros.launching.executables import END_WITH_PARENT_VARIABLE, ros_environment

#: Its tests launch whole stacks, which are late when two of them share the machine.
_SYSTEM = 'test/system/'
_LONGEST = 'test/system/test_killed_nodes.py'

_DEAF = '''
import os, signal, sys
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
os.execv(sys.argv[1], sys.argv[1:])
'''


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment before any test module imports ROS."""
    # A shell starts its background jobs with SIGINT ignored, which they and all that they start would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption('dist', 'no') != 'no':
        return  # This process only hands out tests, and its workers come here themselves.
    if hasattr(config, 'workerinput'):
        os.setpgrp()
    folder = Path(tempfile.mkdtemp(prefix='mbrl_ros_test_'))
    os.environ.update(ros_environment({**os.environ, 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}))
    domain = OwnDomain()
    config.add_cleanup(domain.release)
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    os.environ.update({
        'ROS_DOMAIN_ID': str(domain.number),
        'ROS_LOG_DIR': str(folder),
        'ROS_PYTHON_CHECK_FIELDS': '1',
        # Threads that wait for each other on a busy machine make small networks slow.
        'OMP_NUM_THREADS': '1',
        # Of a run that is killed no node shall be left.
        END_WITH_PARENT_VARIABLE: '1',
        'PYTHONPATH': os.pathsep.join(filter(None, [str(config.rootpath), os.environ.get('PYTHONPATH')])),
    })


@pytest.fixture(scope='session')
def deaf() -> list[str]:
    """What stands before a command to start it as worst it can be: with SIGINT and SIGTERM ignored and blocked."""
    return [sys.executable, '-c', _DEAF]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, and beside tests of nodes, which mostly wait; those of `unit/` compute."""
    order = _LONGEST, _SYSTEM, 'test/nodes/', ''
    items.sort(key=lambda item: next(rank for rank, begin in enumerate(order) if item.nodeid.startswith(begin)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Tests of a file stay together, as they share fixtures that take long; and so do all that launch stacks."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _SYSTEM if nodeid.startswith(_SYSTEM) else super()._split_scope(nodeid)

    config.option.loadscopereorder = False  # The number of tests says nothing of how long they take.
    return Scheduling(config, log)
