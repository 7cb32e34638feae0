"""An agent of one's own, without plan, model or uncertainty, in the unchanged stack: it acts, learns, and is swapped."""

import csv
import math
from pathlib import Path

import pytest
from support.live_stack import Launch

from mbrl_ros.agents.bundle import AgentBundle

AGENT = 'support.proportional:KIND'
TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture
def launched(tmp_path, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', str(TESTS), prepend=':')
    launch = Launch(tmp_path / 'screen', 'demo.launch.yaml', f'agent:={AGENT}', 'episodes:=6', 'seed:=3',
                    f'output_dir:={tmp_path / "run"}')
    try:
        launch.wait(150.0)
    finally:
        launch.close()
    return tmp_path / 'run', launch.text()


@pytest.mark.timeout(240)
def test_the_stack_runs_an_agent_that_it_knows_nothing_of_and_swaps_its_weights(launched):
    folder, screen = launched
    assert 'Traceback' not in screen
    with (folder / 'scores.csv').open(newline='') as file:
        scores = list(csv.DictReader(file))
    versions = [int(score['model_version']) for score in scores if score['phase'] == 'running']
    assert versions == sorted(versions) and len(set(versions)) >= 2  # Two bundles were acted with, one after the other.
    assert [score['success'] for score in scores][-1] == 'True'
    assert all(math.isnan(float(score['model_error'])) for score in scores)
    bundle = AgentBundle.load(folder / 'model.safetensors')
    assert (bundle.card.contract.agent, bundle.version, list(bundle.groups)) == (AGENT, versions[-1], ['policy'])
