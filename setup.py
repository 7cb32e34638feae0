"""Installs with pip (`pip install .`, `-e`) and with colcon (`colcon build`, also `--symlink-install`)."""

import re
from pathlib import Path

from setuptools import Extension, find_packages, setup

NAME = 'mbrl_ros'
KERNELS = f'{NAME}/models/ensemble/kernels'
HERE = Path(__file__).resolve().parent  # colcon runs a link to this file when it installs by links
NODES = ('arm_simulator', 'state_estimator', 'experience_logger', 'model_trainer', 'command_guard', 'mpc_controller',
         'episode_manager', 'scripted_demonstrator', 'keyboard_teleop')


def names(file: str) -> list[str]:
    """Distribution names of one requirements file: an existing environment keeps the versions that it has."""
    lines = (line.split('#')[0].strip() for line in (HERE / 'requirements' / file).read_text().splitlines())
    return sorted({re.split(r'[=<>!~; ]', line)[0] for line in lines if line})


def data_files() -> list[tuple[str, list[str]]]:
    """Marker, manifest, launch files and configuration, each folder kept as it is under `share/`."""
    share = Path('share') / NAME
    found = {str(share): ['package.xml'], 'share/ament_index/resource_index/packages': [f'resource/{NAME}']}
    for top in ('launch', 'config'):
        for path in sorted((HERE / top).rglob('*')):
            if path.is_file():
                relative = path.relative_to(HERE)
                found.setdefault(str(share / relative.parent), []).append(str(relative))
    return list(found.items())


setup(
    name=NAME,
    version='0.1.0',
    description='Model-based reinforcement learning as a live ROS 2 control stack',
    maintainer='The mbrl_ros maintainers',
    maintainer_email='maintainers@mbrl-ros.org',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=[*find_packages(include=[NAME, f'{NAME}.*']), 'mbrl_sim'],
    package_dir={'mbrl_sim': 'sim'},
    package_data={f'{NAME}.models.ensemble.kernels': ['*.cu']},
    # Loaded through ctypes. Without a compiler the package installs all the same, and does it all with torch.
    ext_modules=[Extension(f'{NAME}.models.ensemble.kernels._native', [f'{KERNELS}/{name}.c' for name in ('fused', 'gradient')],
                           depends=[f'{KERNELS}/{name}.h'
                                    for name in ('fused_kernel', 'gradient_kernel', 'tool_frame_kernel', 'validation_kernel',
                                                 'vectors')],
                           libraries=['m'], optional=True, extra_compile_args=['-O3', '-fopenmp', '-fvisibility=hidden'],
                           extra_link_args=['-fopenmp'])],
    data_files=data_files(),
    install_requires=names('core.txt'),
    extras_require={'ros': names('ros.txt'), 'gym': names('gym.txt'), 'test': names('test.txt'), 'compare': names('compare.txt'),
                    'gpu': names('gpu.txt'), 'solver': names('solver.txt'),
                    'minari': [f'{name}; python_version >= "3.11"' for name in names('minari.txt')]},
    zip_safe=False,
    entry_points={
        'console_scripts': [
            'mbrl-ros = mbrl_ros.cli.entry:main',
            *(f'{node} = mbrl_ros.cli.node:main' for node in NODES),
        ],
    },
)
