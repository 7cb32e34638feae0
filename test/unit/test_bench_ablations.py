"""What parts of learning a task are worth: the rows of `make bench-ablations`, a run, and the table of its figures."""

import contextlib
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from mbrl_ros.runs.evaluation import wilson_interval
from mbrl_ros.runs.task_loop import TaskLoop
from mbrl_ros.task_settings import TaskLoopConfig
from mbrl_sim.tabletop import make_task_world


@pytest.fixture
def bench(monkeypatch):
    """The script as a module; it lies in no package."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2] / 'bench')
    return importlib.import_module('ablations')


def test_each_row_is_another_way_to_learn(bench):
    rows = [(TaskLoopConfig.of_task('lift', changes=row.changes), row.is_framed) for row in bench.ABLATIONS.values()]
    assert rows[0] == (TaskLoopConfig.of_task('lift'), True)
    assert all(row not in rows[:index] for index, row in enumerate(rows))


@pytest.mark.parametrize('is_framed', [True, False])
def test_a_run_learns_and_is_evaluated(bench, is_framed, monkeypatch):
    tiny = ('max_episode_steps=20', 'demonstrations=2', 'control.max_disagreement=1000.0', 'planner.horizon=3',
            'planner.population_size=16', 'planner.num_iterations=1', 'learner.min_transitions=20',
            'learner.trainer.max_steps=10')
    monkeypatch.setitem(bench.ABLATIONS, 'tiny', bench.Ablation('tiny', tiny, is_framed))
    run = bench.learn_and_evaluate('tiny', 1, task='lift', steps=70, episodes=3)
    assert run['steps_before'] == [40, 60]
    assert (run['planned'], run['steps'], run['successes'], run['episodes']) == ([False, False], 80, 0, 3)
    assert run['plan_ms'] > 0.0


def test_only_the_row_that_says_so_leaves_the_frame(bench):
    frameless = []
    for row in bench.ABLATIONS.values():
        config = TaskLoopConfig.of_task('lift', changes=row.changes)
        with contextlib.closing(row.placed(TaskLoop('lift', config, make_task_world))) as loop:
            frameless += [row.name] if loop.space.frame is None else []
    assert frameless == ["not in the tool's frame"]


def test_the_table_pools_seeds_and_shows_each_of_them(bench):
    def run(row, seed, planned, successes):
        return {'row': row, 'seed': seed, 'planned': planned, 'successes': successes, 'episodes': 50, 'plan_ms': 10.0 + seed}

    machine = {'description': 'a machine', 'gpu': None, 'torch': '2', 'threads': 1, 'instructions': 'none'}
    runs = [run('one network', 4, [], 0), run('as configured', 2, [True, False, True], 50),
            run('as configured', 0, [True, True], 40)]
    lines = bench.markdown_table({'setting': {'task': 'lift', 'steps': 3000}, 'machine': machine, 'runs': runs}).splitlines()
    low, high = wilson_interval(4, 5)
    assert lines[2:4] == [
        f'| as configured | 0, 2 | 4 of 5 (80 %, {100 * low:.0f} to {100 * high:.0f}) | 90 of 100 (90 %, 83 to 94) | 80, 100 '
        '| 11 ms |',
        '| one network | 4 | - | 0 of 50 (0 %, 0 to 7) | 0 | 14 ms |']


def test_a_file_that_cannot_be_written_is_one_line_before_anything_is_learned(tmp_path):
    (tmp_path / 'file').touch()
    script = Path(__file__).resolve().parents[2] / 'bench' / 'ablations.py'
    result = subprocess.run([sys.executable, script, '--json', tmp_path / 'file' / 'figures.json'], capture_output=True,
                            text=True, check=False, timeout=60)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].endswith('figures.json: cannot be written (Not a directory)')
    assert 'Traceback' not in result.stderr
