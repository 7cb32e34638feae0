"""What docs/change.md tells to do, done to a copy of the package word by word."""

import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.still_planner import StillPlanner

from mbrl_ros.planning.planner import Planner

ROOT = Path(__file__).resolve().parents[2]
_RUN = ['--steps', '60', '--set', 'max_episode_steps=60', '--set', 'demonstrations=0']


class Tree:
    """A copy of the package that can be changed and run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / 'mbrl_ros', folder / 'mbrl_ros', ignore=shutil.ignore_patterns('__pycache__'))
        shutil.copytree(ROOT / 'config', folder / 'config', ignore=shutil.ignore_patterns('models'))
        (folder / 'mbrl_sim').symlink_to(ROOT / 'sim')
        shutil.copy(ROOT / 'package.xml', folder)

    def copy(self, source: str, target: str, **words: str) -> None:
        """Copy a file and change words in the copy."""
        text = (self.folder / source).read_text()
        for old, new in words.items():
            text = text.replace(old, new)
        (self.folder / target).write_text(text)

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace the first such text, which has to be there."""
        path, text = self.folder / name, (self.folder / name).read_text()
        assert old in text, f'{name} has no {old!r}'
        path.write_text(text.replace(old, new, 1))

    def run(self, *words: str) -> subprocess.CompletedProcess:
        """A command of the copy, with the tests' support to import."""
        path = os.pathsep.join([str(self.folder), str(ROOT / 'test')])
        return subprocess.run([sys.executable, *words], cwd=self.folder, env={**os.environ, 'PYTHONPATH': path},
                              capture_output=True, text=True, timeout=120)

    def learn(self, *words: str) -> None:
        """A short run of learning, which has to do."""
        done = self.run('-m', 'mbrl_ros.cli.main', 'learn', '--out', str(self.folder / 'run'), *_RUN, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        assert len((self.folder / 'run' / 'scores.csv').read_text().splitlines()) >= 2


@pytest.fixture
def tree(tmp_path) -> Tree:
    return Tree(tmp_path / 'tree')


def test_a_planner_in_the_tests_has_exactly_what_the_protocol_lists():
    wanted = {name for name in vars(Planner) if not name.startswith('_')} | set(Planner.__annotations__)
    assert {name for name in vars(StillPlanner) if not name.startswith('_')} == wanted
    for name in wanted - {'device'}:
        own, listed = (inspect.signature(getattr(kind, name)).parameters for kind in (StillPlanner, Planner))
        assert list(own) == list(listed)


def test_a_term_of_a_reward_needs_an_entry_and_a_weight(tree):
    tree.edit('mbrl_ros/tasks/reach.py', "            'clearance': low.square(),\n",
              "            'clearance': low.square(),\n            'still': speed,\n")
    tree.edit('mbrl_ros/tasks/reach.py', "\n\n@dataclasses.dataclass(frozen=True)\nclass ReachGoalConfig",
              "    still: float = setting(2.0, 'Cost of joint speed.', low=0.0, live=True)\n\n\n"
              '@dataclasses.dataclass(frozen=True)\nclass ReachGoalConfig')
    done = tree.run('-c', 'import torch; from mbrl_ros.tasks.registry import make_task; '
                          'from mbrl_ros.robots.profile import load_robot; '
                          'task = make_task("reach", load_robot("panda")); '
                          'print(task.terms(torch.ones(14), torch.zeros(7), (0.5, 0.0, 0.5))["still"] < 0)')
    assert done.stdout.strip() == 'tensor(True)', done.stderr
    tree.learn('--task', 'reach', '--set', 'rewards.reach.weights.still=1.0')


def test_a_planner_of_another_kind_is_returned_by_make_planner(tree):
    with (tree.folder / 'mbrl_ros' / 'planning' / 'sampling.py').open('a') as file:
        file.write('\n\nimport support.still_planner\n\n\ndef make_planner(*_, **__):\n    '
                   'return support.still_planner.StillPlanner()\n')
    tree.learn('--task', 'reach', '--set', 'explorations=1', '--set', 'learner.trainer.max_steps=5', '--steps', '100')


def test_a_task_is_a_file_an_entry_its_settings_and_a_file_of_them(tree):
    tree.copy('mbrl_ros/tasks/push.py', 'mbrl_ros/tasks/shove.py', PushTask='ShoveTask', PushConfig='ShoveConfig',
              PushWeights='ShoveWeights', **{"name = 'push'": "name = 'shove'"})
    face = 'mbrl_ros/tasks/registry.py'
    tree.edit(face, 'from mbrl_ros.tasks.task import', 'from mbrl_ros.tasks.shove import ShoveConfig, ShoveTask\n'
                                                       'from mbrl_ros.tasks.task import')
    tree.edit(face, 'PickPlaceTask)}', 'PickPlaceTask, ShoveTask)}')
    tree.edit(face, '    push: ', "    shove: ShoveConfig = section(ShoveConfig, 'The shove task.')\n    push: ")
    tree.copy('config/tasks/push.yaml', 'config/tasks/shove.yaml')
    tree.edit('config/agents/pets.yaml', '  push:\n', '  shove: *over_the_table\n  push:\n')
    tree.learn('--task', 'shove', '--set', 'explorations=1')


def test_an_agent_is_a_file_that_ends_in_its_kind_and_an_entry(tree):
    shutil.copy(ROOT / 'test' / 'support' / 'proportional.py', tree.folder / 'mbrl_ros' / 'agents' / 'proportional.py')
    tree.edit('mbrl_ros/agents/registry.py', "pets:KIND',", "pets:KIND', 'proportional': 'mbrl_ros.agents.proportional:KIND',")
    (tree.folder / 'config' / 'agents' / 'proportional.yaml').write_text('tasks:\n  reach: {damping: 0.1}\n')
    tree.learn('--task', 'reach', '--agent', 'proportional', '--set', 'explorations=1', '--steps', '100')
    assert 'damping: 0.1' in (tree.folder / 'run' / 'config.yaml').read_text()
