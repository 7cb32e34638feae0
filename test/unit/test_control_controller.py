"""What the controller does when all is well: reach, explore, go home, and follow every change with the next plan."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.fake_arm import FakeArm, ScriptedAgent, make_plan

from mbrl_ros.agents.agent import Decision
from mbrl_ros.control.controller import Controller
from mbrl_ros.control.tick import ControllerConfig, TickInputs
from mbrl_ros.errors import ConfigError
from mbrl_ros.models.toys import VelocityArm
from mbrl_ros.planning.planner import PlannerConfig
from mbrl_ros.planning.sampling import make_planner
from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.tasks.reach import ReachTask, ReachWeights
from mbrl_ros.types import EpisodeReport, Phase

DT = 0.05
PANDA = load_robot('panda')
CHAIN = KinematicChain.of_robot(PANDA)
TASK = ReachTask.of_robot(PANDA)
CHANGE = np.array(PANDA.max_acceleration_rad_s2) * DT / np.array(PANDA.max_velocity_rad_s)


class ExactAgent:
    """Plans with an exact model; of `Agent` it has what a controller needs."""

    version, is_ready = 1, True

    def __init__(self):
        self._model = VelocityArm.of_robot(PANDA, DT)
        self._planner = make_planner(PlannerConfig(device='cpu'), 7, CHANGE)

    def reset(self, seed):
        self._planner.reset(seed)
        return self._planner

    def predict(self, obs, previous_action, latency_s):
        return None

    def act(self, obs, goal, memory, **wanted):
        plan = memory.plan(self._model, obs, **wanted)
        return Decision(plan.actions[0], plan.elapsed_s, plan=plan)


def make_controller(seed=0, **settings):
    return Controller(PANDA, TASK, ControllerConfig(**settings), period_s=DT, seed=seed)


def make_inputs(arm, phase, agent=None, *, goal=(0.5, 0.0, 0.5), goal_stamp_ns=0, episode=0, effect_ns=None, **more):
    now = arm.stamp_ns
    report = EpisodeReport(now, phase, 0, episode, 0, 0, 0.0, 0.0, 0.0, False, goal, goal_stamp_ns, 0)
    return TickInputs(now_ns=now, effect_ns=now if effect_ns is None else effect_ns, state=arm.state, report=report, agent=agent,
                      anytime=False, **more)


def run(controller, phase, steps, **more):
    arm, agent, path = FakeArm(PANDA, DT), ExactAgent(), []
    for _ in range(steps):
        arm.step(controller.tick(make_inputs(arm, phase, agent, **more)).velocity)
        path.append(arm.q)
    return np.array(path)


def tool_m(q):
    return CHAIN.position(torch.as_tensor(q)).numpy()


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_with_an_exact_model_it_reaches_goals_all_over_the_workspace(seed):
    goal = PANDA.workspace.sample(np.random.default_rng(seed))
    path = run(make_controller(seed=seed), Phase.RUNNING, 60, goal=tuple(goal))
    assert np.linalg.norm(tool_m(path[-5:]) - goal, axis=1).max() < 0.02


def test_the_same_seed_and_episode_give_the_same_motion():
    first, second = (run(make_controller(seed=3), Phase.RUNNING, 10) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, run(make_controller(seed=4), Phase.RUNNING, 10))


def test_exploring_moves_every_joint_smoothly_and_differs_between_episodes():
    path = run(make_controller(), Phase.EXPLORING, 100)
    velocity = np.diff(path, axis=0) / DT
    assert (np.ptp(path, axis=0) > 0.2).all()
    assert (np.abs(np.diff(velocity, axis=0)) <= np.array(PANDA.max_acceleration_rad_s2) * DT + 1e-6).all()
    np.testing.assert_array_equal(path, run(make_controller(), Phase.EXPLORING, 100))
    assert not np.array_equal(path, run(make_controller(), Phase.EXPLORING, 100, episode=1))


def test_exploring_stays_near_home():
    path = run(make_controller(), Phase.EXPLORING, 600)
    assert np.abs(path - PANDA.home_rad).max() < 1.8


def test_homing_ends_at_home():
    controller, arm = make_controller(), FakeArm(PANDA, DT)
    arm.q = arm.q + 0.5
    for _ in range(80):
        arm.step(controller.tick(make_inputs(arm, Phase.HOMING)).velocity)
    np.testing.assert_allclose(arm.q, PANDA.home_rad, atol=1e-3)


def test_new_weights_make_the_next_decision_and_the_memory_stays():
    agent = ScriptedAgent(make_plan(np.zeros((8, 7))))
    controller, arm, newer = make_controller(), FakeArm(PANDA, DT), agent.with_bundle(SimpleNamespace(version=2))
    first = controller.tick(make_inputs(arm, Phase.RUNNING, agent))
    arm.step(None)
    second = controller.tick(make_inputs(arm, Phase.RUNNING, newer))
    assert [call['version'] for call in agent.asked] == [first.model_version, second.model_version] == [1, 2]
    assert [call['memory'] for call in agent.asked] == [1, 1]


def test_each_episode_starts_with_its_own_seed():
    agent = ScriptedAgent(make_plan(np.zeros((8, 7))))
    controller, arm = make_controller(), FakeArm(PANDA, DT)
    for episode in (0, 0, 1):
        controller.tick(make_inputs(arm, Phase.RUNNING, agent, episode=episode))
    assert len(set(agent.seeds)) == len(agent.seeds) == 2


def test_goal_and_weights_change_with_the_very_next_plan():
    agent = ScriptedAgent(make_plan(np.zeros((8, 7))))
    controller, arm = make_controller(), FakeArm(PANDA, DT)
    obs, action = torch.as_tensor(arm.state.obs(PANDA.joints)), torch.zeros(7)
    for goal, weight in (((0.5, 0.0, 0.5), 1.0), ((0.4, 0.2, 0.3), 1.0), ((0.4, 0.2, 0.3), 2.0)):
        weights = ReachWeights(distance=weight, precision=0.0, speed=0.0, effort=0.0, limits=0.0, clearance=0.0)
        controller.tick(make_inputs(arm, Phase.RUNNING, agent, goal=goal, weights=weights))
        assert tuple(agent.asked[-1]['goal']) == goal
        distance = np.linalg.norm(tool_m(arm.q) - goal)
        assert float(agent.asked[-1]['objective'](obs, action)) == pytest.approx(-weight * distance, rel=1e-5)


@pytest.mark.parametrize(('stamp', 'x', 'wins'), [(5, 0.4, 'topic'), (3, 0.4, 'manager'), (5, 3.0, 'manager')])
def test_the_newer_goal_wins_unless_it_is_out_of_reach(stamp, x, wins):
    agent = ScriptedAgent(make_plan(np.zeros((8, 7))))
    arm, topic, manager = FakeArm(PANDA, DT), np.array([x, 0.2, 0.3]), (0.5, 0.0, 0.5)
    inputs = make_inputs(arm, Phase.RUNNING, agent, goal=manager, goal_stamp_ns=4)
    make_controller().tick(dataclasses.replace(inputs, goal_m=topic, goal_stamp_ns=stamp))
    wanted = {'topic': topic, 'manager': np.array(manager)}[wins]
    obs = torch.as_tensor(arm.state.obs(PANDA.joints))
    expected = TASK.reward(obs, torch.zeros(7), wanted)
    assert float(agent.asked[-1]['objective'](obs, torch.zeros(7))) == float(expected)


def test_without_a_prediction_the_agent_is_told_where_the_arm_will_be_by_its_present_speed():
    agent = ScriptedAgent(make_plan(np.full((8, 7), 0.2)))
    controller, arm = make_controller(), FakeArm(PANDA, DT)
    arm.step(controller.tick(make_inputs(arm, Phase.RUNNING, agent)).velocity)
    controller.tick(make_inputs(arm, Phase.RUNNING, agent, effect_ns=arm.stamp_ns + 30_000_000))
    expected = arm.q + 0.03 * arm.qd
    np.testing.assert_allclose(agent.asked[-1]['obs'][:7], expected, atol=1e-6)


def test_an_agent_with_a_model_predicts_where_its_action_takes_effect():
    class Seer(ScriptedAgent):
        def predict(self, obs, previous_action, latency_s):
            return obs + latency_s

    agent, arm = Seer(make_plan(np.zeros((8, 7)))), FakeArm(PANDA, DT)
    make_controller().tick(make_inputs(arm, Phase.RUNNING, agent, effect_ns=arm.stamp_ns + 30_000_000))
    np.testing.assert_allclose(agent.asked[-1]['obs'], arm.state.obs(PANDA.joints) + 0.03)


def test_the_plan_must_be_wanted_before_it_is_too_late():
    with pytest.raises(ConfigError, match='plan_budget_periods needs at most plan_deadline_periods'):
        ControllerConfig(plan_budget_periods=1.0, plan_deadline_periods=0.8)



def test_without_any_state_a_new_controller_says_nothing():
    controller, arm = make_controller(), FakeArm(PANDA, DT)
    inputs = dataclasses.replace(make_inputs(arm, Phase.WAITING), state=None)
    assert [controller.tick(inputs).velocity for _ in range(3)] == [None] * 3


def test_in_lockstep_a_new_controller_moves_no_time():
    controller, arm = make_controller(), FakeArm(PANDA, DT)
    assert controller.tick(make_inputs(arm, Phase.WAITING, lockstep=True)).velocity is None
