import json

import numpy as np
import pytest
from support.ramp_arm import ramp_bundle
from typer.testing import CliRunner

from mbrl_ros.agents.bundle import Contract
from mbrl_ros.benchmarks import solver
from mbrl_ros.cli.bench import app
from mbrl_ros.planning.solver.clearance import Clearance
from mbrl_ros.planning.solver.cost import CostWeights
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.tasks.registry import make_task

pytest.importorskip('casadi', reason='the extra solver is not installed')
ROBOT = load_robot('panda')
HOME = np.concatenate([ROBOT.home_rad, np.zeros(7)])


def test_reachable_goals_are_clear_of_the_boxes():
    clearance, rng = Clearance(ROBOT, solver.BOXES_M), np.random.default_rng(0)
    boxes = np.array(solver.BOXES_M).reshape(-1, 2, 3)
    for _ in range(5):
        goal = solver.reachable_goal(ROBOT, clearance, rng)
        assert not ROBOT.workspace.refusal(goal)
        assert np.linalg.norm(np.maximum(np.maximum(boxes[:, 0] - goal, goal - boxes[:, 1]), 0.0), axis=-1).min() > 0.03


def test_what_is_beyond_a_limit_is_found():
    clearance, still = Clearance(ROBOT, solver.BOXES_M), np.zeros((4, 7))
    obs = np.tile(HOME, (3, 1))
    assert set(solver.excess(ROBOT, clearance, obs, still, 0.05).values()) == {0.0}
    fast, far, into, hasty = obs.copy(), obs.copy(), obs.copy(), still.copy()
    fast[1, 7], far[1, 0], into[1, :2], hasty[3, 0] = 1.6, 3.0, (0.4, -0.285), 0.5
    assert solver.excess(ROBOT, clearance, fast, still, 0.05)['speed_rad_s'] == pytest.approx(0.1)
    assert solver.excess(ROBOT, clearance, far, still, 0.05)['position_rad'] == pytest.approx(3.0 - 2.8973)
    assert solver.excess(ROBOT, clearance, into, still, 0.05)['box_or_floor_m'] > 0.0
    assert solver.excess(ROBOT, clearance, obs, hasty, 0.05)['acceleration_rad_s2'] == pytest.approx(0.75 / 0.05 - 10.0)


def test_it_measures_with_a_given_model_and_writes_the_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(solver, 'HAND_SET', [CostWeights(speed=10.0, change=10.0)])
    space = make_task('reach', ROBOT).space
    contract = Contract.of('solver_mpc', space, robot='panda', task='reach', period_s=0.05)
    model, figures = tmp_path / 'model.safetensors', tmp_path / 'figures.json'
    ramp_bundle(contract, ROBOT.max_velocity_rad_s).save(model)
    done = CliRunner().invoke(app, ['solver', '--goals', '2', '--cost-goals', '2', '--model', str(model), '--json', str(figures)])
    assert done.exit_code == 0, done.output
    written = json.loads(figures.read_text())
    assert written['boxes']['successes'] == 2 and written['boxes']['contact_steps'] == 0
    assert written['costs']['gain'] > 0.0 and written['costs']['goals_won'] == 2
    assert f'2 of 2 goals reached, median {written["boxes"]["steps_median"]:.0f} steps, 0 physics steps' in done.output
