"""The package installs with pip and with colcon, data files included, and says what it needs in one place."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.asserts import some

from mbrl_ros.launching.executables import NODES

ROOT = Path(__file__).resolve().parents[2]
_FIND = 'import mbrl_ros, mbrl_sim; from mbrl_ros.resources import share_directory as s; print(mbrl_ros.__file__, s(), sep="\\n")'


@pytest.fixture
def source(tmp_path) -> Path:
    """A copy of the source tree, so that builds leave nothing in it."""
    copy = tmp_path / 'src' / 'mbrl_ros'
    ignored = shutil.ignore_patterns('.*', '*.egg-info', '__pycache__', 'build', 'install', 'log', 'runs', 'test')
    shutil.copytree(ROOT, copy, ignore=ignored)
    return copy


def run(*words: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(words, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def data_files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for top in ('launch', 'config') for path in (folder / top).rglob('*') if path.is_file()}


def requirement_lines() -> list[str]:
    lines = (line.split('#')[0].strip() for file in sorted((ROOT / 'requirements').glob('*.txt'))
             for line in file.read_text(encoding='utf-8').splitlines())
    return [line for line in lines if line]


def test_pip_installs_the_code_and_every_data_file(source, tmp_path):
    prefix = tmp_path / 'prefix'
    # Without --ignore-installed pip would first uninstall the package from the environment that runs this test.
    run(sys.executable, '-m', 'pip', 'install', '--quiet', '--ignore-installed', '--no-deps', '--no-build-isolation',
        '--prefix', str(prefix), str(source), cwd=tmp_path)
    packages = next(prefix.rglob('mbrl_ros/__init__.py')).parents[1]
    module, share = run(sys.executable, '-c', _FIND, cwd=tmp_path, PYTHONPATH=str(packages)).splitlines()
    assert Path(module).is_relative_to(prefix)
    assert Path(share).is_relative_to(prefix)
    assert data_files(Path(share)) == data_files(ROOT)
    assert {path.name for path in next(prefix.rglob('mbrl-ros')).parent.iterdir()} >= {'mbrl-ros', *NODES}


@pytest.mark.parametrize('option', ['', '--symlink-install'])
def test_colcon_installs_executables_where_ros_looks_for_them(source, tmp_path, option):
    pytest.importorskip('colcon_ros', reason='colcon is not installed')
    run(sys.executable, '-m', 'colcon', 'build', *filter(None, [option]), cwd=tmp_path)
    prefix = tmp_path / 'install' / 'mbrl_ros'
    assert {path.name for path in (prefix / 'lib' / 'mbrl_ros').iterdir()} >= set(NODES)
    assert (prefix / 'share' / 'ament_index' / 'resource_index' / 'packages' / 'mbrl_ros').exists()
    assert data_files(prefix / 'share' / 'mbrl_ros') == data_files(ROOT)
    found = run('bash', '-c', f'. install/setup.bash && {sys.executable} -c \'{_FIND}\'', cwd=tmp_path, PYTHONPATH='')
    assert all(Path(path).is_relative_to(tmp_path) for path in some(found.splitlines()))


def test_the_installed_executables_are_the_nodes():
    tree = ast.parse((ROOT / 'setup.py').read_text(encoding='utf-8'))
    [listed] = [node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == 'NODES']
    assert set(ast.literal_eval(listed)) == set(NODES)


def test_every_requirement_is_pinned_exactly():
    exact = re.compile(r'[\w.-]+==[\w.+]+(; python_version (<|>=) "3\.\d+")?')
    assert [line for line in requirement_lines() if not exact.fullmatch(line)] == []


def test_every_third_party_import_is_a_requirement_or_a_ros_dependency():
    provided_by = {'yaml': 'pyyaml', 'pybullet_data': 'pybullet', 'pybullet_utils': 'pybullet', 'ruamel': 'ruamel.yaml',
                   'mcap_ros2': 'mcap-ros2-support', 'PIL': 'pillow', 'cuda': 'cuda-bindings'}
    pinned = {re.split('[=;]', line)[0].lower().replace('_', '-') for line in requirement_lines()}
    manifest = ElementTree.parse(ROOT / 'package.xml').getroot()
    depends = {element.text for element in manifest.iter('exec_depend')}
    wanted = {name for folder in ('mbrl_ros', 'sim') for path in (ROOT / folder).rglob('*.py') for name in _top_imports(path)}
    third_party = wanted - set(sys.stdlib_module_names) - {'mbrl_ros', 'mbrl_sim'}
    missing = {name for name in third_party
               if name not in depends and provided_by.get(name, name).lower().replace('_', '-') not in pinned}
    assert missing == set()


def test_the_manifest_and_setup_agree_and_the_address_is_one():
    manifest = ElementTree.parse(ROOT / 'package.xml').getroot()
    setup = (ROOT / 'setup.py').read_text(encoding='utf-8')
    [maintainer] = manifest.iter('maintainer')
    assert re.fullmatch(r'[\w.-]+@[\w-]+(\.[\w-]+)+', maintainer.attrib['email'])
    assert f"maintainer_email='{maintainer.attrib['email']}'" in setup
    assert f"version='{manifest.findtext('version')}'" in setup
    assert manifest.findtext('export/build_type') == 'ament_python'


def _top_imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.partition('.')[0])
    return found
