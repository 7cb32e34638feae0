"""Imports go one way: nodes -> ros -> the pure packages; the folders are the architecture."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Folders that may know ROS, physics or what runs the stack; every other one, a new one too, is pure.
NOT_PURE = ('ros', 'nodes', 'cli', 'launching', 'benchmarks', 'runs', 'environments')
MESSAGES = ('action_msgs', 'builtin_interfaces', 'diagnostic_msgs', 'geometry_msgs', 'lifecycle_msgs', 'rcl_interfaces',
            'rosgraph_msgs', 'sensor_msgs', 'std_msgs', 'std_srvs', 'trajectory_msgs', 'visualization_msgs')
ROS = ('rclpy', 'rosidl_runtime_py', 'ament_index_python', *MESSAGES)
PHYSICS = ('pybullet', 'pybullet_utils', 'pybullet_data', 'mujoco', 'gymnasium', 'mbrl_sim')


def modules() -> Iterator[tuple[str, Path]]:
    for folder, package in ((ROOT / 'mbrl_ros', 'mbrl_ros'), (ROOT / 'sim', 'mbrl_sim')):
        for path in sorted(folder.rglob('*.py')):
            parts = path.relative_to(folder).with_suffix('').parts
            yield '.'.join([package, *(part for part in parts if part != '__init__')]), path


def imports(path: Path, module: str, at_load: bool = False) -> set[str]:
    """Everything that a file imports, in functions too unless `at_load`."""
    found = set()
    tree = ast.parse(path.read_text(encoding='utf-8'))
    for node in tree.body if at_load else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{module}: relative import'
            found |= {f'{node.module}.{alias.name}' for alias in node.names}
    return found


def layer(module: str) -> str:
    parts = module.split('.')
    return parts[1] if len(parts) > 1 else ''


def breaches(part_of, forbidden: tuple[str, ...]) -> list[str]:
    return [f'{module} imports {name}' for module, path in modules() if part_of(module) for name in sorted(imports(path, module))
            if any(name == word or name.startswith(f'{word}.') for word in forbidden)]


def own(*layers: str) -> tuple[str, ...]:
    return tuple(f'mbrl_ros.{name}' for name in layers)


def test_the_scan_sees_the_code():
    names = [module for module, _ in modules()]
    assert {'mbrl_ros.types', 'mbrl_ros.ros.convert', 'mbrl_sim.world'} <= set(names)
    assert 'rclpy.node.Node' in imports(ROOT / 'mbrl_ros' / 'ros' / 'runtime.py', 'mbrl_ros.ros.runtime')


def test_the_pure_packages_are_found_and_not_listed():
    found = {layer(module) for module, _ in modules() if module.startswith('mbrl_ros.')} - set(NOT_PURE)
    assert {'agents', 'control', 'estimation', 'experience', 'models', 'planning', 'robots', 'spaces', 'tasks'} <= found


def test_pure_packages_know_neither_ros_nor_physics_nor_what_is_above_them():
    def is_pure(module: str) -> bool:
        return module.startswith('mbrl_ros.') and layer(module) not in NOT_PURE
    assert breaches(is_pure, (*ROS, *PHYSICS, *own(*NOT_PURE))) == []


def test_runs_are_given_a_world_and_know_neither_ros_nor_physics_nor_commands():
    bullet = tuple(name for name in PHYSICS if name != 'gymnasium')
    assert breaches(lambda module: layer(module) == 'runs', (*ROS, *bullet, *own('ros', 'nodes', 'cli', 'benchmarks'))) == []


def test_environments_know_neither_ros_nor_an_arm_nor_what_is_above_them():
    above = own('ros', 'nodes', 'cli', 'launching', 'robots', 'tasks', 'control')
    arm = tuple(name for name in PHYSICS if name != 'gymnasium')
    assert breaches(lambda module: layer(module) == 'environments', (*ROS, *arm, *above)) == []


def test_planning_knows_the_protocol_of_a_model_and_not_how_one_is_learned():
    assert breaches(lambda module: layer(module) == 'planning', own('models', 'agents', 'training')) == []


def algorithms() -> tuple[str, ...]:
    """Modules of agents that are of one algorithm, with those that know all of them."""
    files = {path.stem for path in (ROOT / 'mbrl_ros' / 'agents').glob('*.py')} - {'__init__', 'agent', 'bundle', 'codec'}
    assert {'pets', 'registry'} <= files
    return own(*(f'agents.{name}' for name in files))


def test_control_knows_the_protocol_of_an_agent_and_no_algorithm():
    assert breaches(lambda module: layer(module) == 'control', own('models', 'training') + algorithms()) == []


def test_training_knows_the_protocol_of_a_learner_and_no_algorithm():
    assert breaches(lambda module: layer(module) == 'training', own('models', 'planning', 'control') + algorithms()) == []


def test_neither_nodes_nor_runs_know_an_algorithm():
    def is_any(module: str) -> bool:
        return layer(module) in ('nodes', 'ros', 'runs', 'cli')
    assert breaches(is_any, own('agents.pets', 'models', 'planning.sampling', 'planning.optimisers')) == []


def test_the_ros_layer_knows_no_node():
    assert breaches(lambda module: module.startswith('mbrl_ros.ros'), (*PHYSICS, *own('nodes', 'cli', 'launching'))) == []


def test_nodes_know_neither_each_other_nor_the_command_line_nor_physics():
    assert breaches(lambda module: module.startswith('mbrl_ros.nodes'), (*PHYSICS, *own('nodes', 'cli', 'launching'))) == []


def test_the_supervisor_needs_no_ros_and_no_mathematics():
    forbidden = (*ROS, *PHYSICS, 'numpy', 'torch', *own('ros', 'nodes', 'cli', 'types'))
    assert breaches(lambda module: module.startswith('mbrl_ros.launching'), forbidden) == []


def test_the_simulated_world_is_pure_but_for_its_node_and_its_messages():
    at_the_edge = ('mbrl_sim.arm_simulator_node', 'mbrl_sim.wire')
    assert breaches(lambda module: module.startswith('mbrl_sim') and module not in at_the_edge,
                    (*ROS, *own('ros', 'nodes', 'cli', 'launching', 'runs', 'models', 'planning', 'training'))) == []


def test_only_what_starts_a_run_knows_the_simulated_world_and_that_one_knows_none_of_it():
    starting = ('cli', 'benchmarks')
    assert breaches(lambda module: layer(module) not in starting and not module.startswith('mbrl_sim'), ('mbrl_sim',)) == []
    assert breaches(lambda module: module.startswith('mbrl_sim'), own(*starting)) == []


def test_no_module_imports_itself_by_way_of_others():
    known = dict(modules())
    graph = {}
    for module, path in known.items():
        targets = {name if name in known else name.rpartition('.')[0] for name in imports(path, module, at_load=True)}
        graph[module] = {target for target in targets if target in known} - {module}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


def test_every_folder_with_code_is_a_package():
    folders = {path.parent for module, path in modules()}
    assert [str(folder) for folder in sorted(folders) if not (folder / '__init__.py').is_file()] == []
