"""A ROS prefix with this package in it, as an installation makes one, around the very code that is tested."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from mbrl_ros.launching.executables import NODES
from mbrl_ros.resources import PACKAGE, share_directory

#: Runs the node that it is named after.
NODE = """#!{python}
import sys
from mbrl_ros.cli.node import main

sys.exit(main())
"""


def install(folder: Path, environment: Mapping[str, str], program: str = NODE) -> dict[str, str]:
    """Make the prefix in `folder`; returns `environment` with it as the first prefix.

    Args:
        folder: Where the prefix is made.
        environment: What ROS finds other packages by.
        program: Text of each node's executable; `{python}` stands for this interpreter.
    """
    executables = folder / 'lib' / PACKAGE
    markers = folder / 'share' / 'ament_index' / 'resource_index' / 'packages'
    for place in (executables, markers):
        place.mkdir(parents=True)
    (markers / PACKAGE).touch()
    (folder / 'share' / PACKAGE).symlink_to(share_directory())
    for node in NODES:
        (executables / node).write_text(program.format(python=sys.executable))
        (executables / node).chmod(0o755)
    prefixes = filter(None, [str(folder), environment.get('AMENT_PREFIX_PATH')])
    return {**environment, 'AMENT_PREFIX_PATH': os.pathsep.join(prefixes)}
