"""Every test session is alone: its own ROS domain, its own log folder, nothing from or to the network."""

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from mbrl_ros.launching.domain import OwnDomain
from mbrl_ros.launching.executables import ros_environment

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
    folder = Path(tempfile.mkdtemp(prefix='mbrl_ros_test_'))
    os.environ.update(ros_environment({**os.environ, 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}))
    domain = OwnDomain()
    config.add_cleanup(domain.release)
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    os.environ.update({
        'ROS_DOMAIN_ID': str(domain.number),
        'ROS_LOG_DIR': str(folder),
        'ROS_PYTHON_CHECK_FIELDS': '1',
        'PYTHONPATH': os.pathsep.join(filter(None, [str(config.rootpath), os.environ.get('PYTHONPATH')])),
    })


@pytest.fixture(scope='session')
def deaf() -> list[str]:
    """What stands before a command to start it as worst it can be: with SIGINT and SIGTERM ignored and blocked."""
    return [sys.executable, '-c', _DEAF]
