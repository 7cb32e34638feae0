"""The weights of the reward have one owner, the episode manager; controller and trainer hear them in its reports."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from support import reward_follower
from support.bench import NodeBench, made
from support.controller_bench import GOAL, HOME, ROBOT, Bench
from support.trainer_bench import TrainerBench

from mbrl_ros.errors import ConfigError
from mbrl_ros.nodes.episode_manager_node import EpisodeManagerNode
from mbrl_ros.nodes.model_trainer_node import ModelTrainerNode
from mbrl_ros.nodes.mpc_controller_node import MpcControllerNode
from mbrl_ros.ros import convert, qos
from mbrl_ros.tasks.reach import ReachTask, ReachWeights
from mbrl_ros.types import EpisodeReport, Phase, RobotState

FOLLOWER = 'support.reward_follower:KIND'
TASK = ReachTask.of_robot(ROBOT)
OWN = vars(ReachWeights())
NEW, OTHER = {**OWN, 'distance': 8.0}, {**OWN, 'distance': 3.0, 'speed': 0.0}


class Manager(NodeBench):
    """An episode manager, and states of an arm that stands at home."""

    def __init__(self, **parameters: object) -> None:
        super().__init__('arm')
        self.reports = self.hear(DiagnosticArray, 'episode', qos.LATCHED)
        self._state_pub = self.peer.create_publisher(JointState, 'state', qos.STATE)
        self.stamp_ns = 0
        alone = {'driver': 'forward_velocity', 'wait_for': ['nobody'], 'wait_for_s': 0.0}
        self.manager = self.start(EpisodeManagerNode, **alone, **parameters)
        self.manager.on_timer()

    def drive(self) -> None:
        self.stamp_ns += 10_000_000
        self._state_pub.publish(convert.state_to_msg(RobotState(self.stamp_ns, ROBOT.joints, HOME, np.zeros(7)), ROBOT.base_link))

    @property
    def weights(self) -> dict[str, float]:
        return convert.report_from_msg(self.reports[-1], EpisodeReport).weights if self.reports else {}

    def set(self, at_once: bool = False, **values: float) -> list:
        kind, name = (SetParametersAtomically, 'set_parameters_atomically') if at_once else (SetParameters, 'set_parameters')
        parameters = [Parameter(f'weights.{term}', value=value).to_parameter_msg() for term, value in values.items()]
        response = self.call(kind, f'episode_manager/{name}', kind.Request(parameters=parameters))
        return [response.result] if at_once else response.results


@pytest.fixture
def make_manager() -> Iterator:
    yield from made(Manager)


@pytest.fixture
def make_trainer() -> Iterator:
    yield from made(TrainerBench)
    reward_follower.MAY_END.set()


def test_all_hear_the_weights_that_are_set_at_the_owner_and_who_comes_later_hears_the_present_ones(make_manager):
    bench = make_manager()
    bench.spin_until(lambda: bench.weights == OWN, what='a report')
    early = bench.start(MpcControllerNode, agent=FOLLOWER)
    assert bench.set(distance=8.0)[0].successful
    late = bench.start(ModelTrainerNode, agent=FOLLOWER)
    bench.spin_until(lambda: bench.weights == NEW, what='the new weights')
    bench.spin_until(lambda: vars(early._inbox.newest().weights or ReachWeights()) == NEW, what='the controller')
    bench.spin_until(lambda: vars(late._weights) == NEW, what='the trainer')


@pytest.mark.parametrize(('values', 'reason'), [
    ({'distance': -1.0}, 'episode_manager: ReachWeights.distance needs a value in [0.0, inf], got -1.0'),
    ({'distance': math.nan}, 'episode_manager: ReachWeights.distance needs a finite number, got nan'),
    ({'distance': math.inf}, 'episode_manager: ReachWeights.distance needs a finite number, got inf'),
    ({'distanse': 1.0}, "episode_manager: unknown parameter 'weights.distanse'; did you mean 'weights.distance'?"),
    ({'distance': 'much'}, "episode_manager: ReachWeights.distance needs float, got 'much'"),
])
def test_a_weight_that_does_not_fit_is_refused_in_a_sentence_and_nothing_changes_with_it(make_manager, values, reason):
    bench = make_manager()
    (refused,) = bench.set(at_once=True, speed=0.25, **values)
    assert (refused.successful, refused.reason) == (False, reason)
    assert bench.set(effort=0.5)[0].successful
    bench.spin_until(lambda: bench.weights == {**OWN, 'effort': 0.5}, what='the weight that fits, alone')


def test_a_manager_has_the_weights_of_its_task_alone(make_manager):
    with pytest.raises(ConfigError, match="unknown parameter 'weights.distance'"):
        make_manager(task='lift', weights__distance=1.0)
    bench = make_manager(task='lift', weights__goal=40)
    assert bench.manager.get_parameter('weights.goal').value == 40
    assert bench.manager.get_parameter('weights.approach').value == 5.0


def test_a_change_is_shown_between_the_lines_of_the_table(make_manager, capfd):
    bench = make_manager()
    bench.set(distance=8.0)
    bench.set(distance=8.0, speed=0)
    bench.spin_until(lambda: bench.weights['speed'] == 0.0)
    shown = [line.strip() for line in capfd.readouterr().out.splitlines()]
    assert shown == ['new weights of the reward: distance 5 -> 8', 'new weights of the reward: speed 0.5 -> 0']


def test_the_controller_decides_with_the_weights_of_the_newest_report(make_bench):
    bench = make_bench(agent=FOLLOWER)
    obs, action = torch.tensor([*HOME, *np.zeros(7)]), torch.zeros(7)
    bench.phase = Phase.RUNNING
    for weights in (NEW, OTHER, NEW):
        bench.weights = weights
        wanted = TASK.reward(obs, action, GOAL, ReachWeights(**weights))
        reward_follower.ASKED.clear()
        bench.spin_until(lambda wanted=wanted: any(torch.equal(asked(obs, action), wanted) for asked in reward_follower.ASKED))


def test_the_controller_does_not_follow_a_manager_of_another_task(make_bench, said):
    bench: Bench = make_bench(agent=FOLLOWER)
    bench.phase, bench.weights = Phase.RUNNING, {'goal': 1.0}
    bench.spin_until(lambda: said("the reward of 'reach' needs weights of distance, precision, speed, effort, limits, posture"))
    assert bench.controller._inbox.newest().report is None


def rewards_learned(bench: TrainerBench) -> list[float]:
    return [float(model.group('policy')['reward']) for model in bench.models]


def reward_of(weights: dict[str, float]) -> float:
    home, goal = reward_follower.HOME, torch.tensor(reward_follower.GOAL)
    return float(TASK.reward(home[None], torch.zeros(1, 7), goal, ReachWeights(**weights)))


def trained(make_trainer, **parameters: object) -> TrainerBench:
    """A trainer in real time that has made its first round, with the weights of the task."""
    bench = make_trainer(agent=FOLLOWER, **{'schedule.min_new_transitions': 50, **parameters})
    bench.connect()
    bench.weights = OWN
    bench.episode(55)
    bench.spin_until(lambda: bench.reports and bench.models, what='the first round')
    return bench


def test_the_trainer_says_that_it_retrains_and_makes_its_rounds_without_new_steps(make_trainer):
    bench = trained(make_trainer)
    status: dict[str, str] = {}
    bench.peer.create_subscription(DiagnosticArray, '/diagnostics', lambda message: status.update(
        {one.name: one.message for one in message.status}), qos.DRIVER)
    reward_follower.MAY_END.clear()
    bench.weights = NEW
    bench.say(Phase.EXPLORING)
    bench.spin_until(lambda: 'retraining: reward changed (0 of 3 rounds)' in status.values(), what='the status')
    reward_follower.MAY_END.set()
    bench.spin_until(lambda: bench.reports[-1].following.startswith('the agent follows the new reward after 3 rounds'))
    assert not bench.reports[-1].retraining and bench.reports[-1].follow_s > 0.0
    bench.spin_until(lambda: rewards_learned(bench)[-1] == pytest.approx(reward_of(NEW)))
    bench.spin_until(lambda: bench.models[-1].card.weights == NEW)
    assert bench.models[0].card.weights == OWN and rewards_learned(bench)[0] == pytest.approx(reward_of(OWN))
    assert bench.said('of 3 rounds') == [f'retraining: reward changed ({count} of 3 rounds)' for count in range(3)]


def test_a_change_during_a_round_counts_from_the_next_one_on(make_trainer):
    bench = make_trainer(agent=FOLLOWER, **{'schedule.min_new_transitions': 50})
    bench.connect()
    bench.weights = OWN
    reward_follower.MAY_END.clear()
    reward_follower.BEGUN.clear()
    bench.episode(55)
    bench.spin_until(reward_follower.BEGUN.is_set, what='the first round')
    for weights in (OTHER, NEW):
        bench.weights = weights
        bench.say(Phase.EXPLORING)
    bench.spin_until(lambda: vars(bench.node._weights) == NEW)
    reward_follower.MAY_END.set()
    bench.spin_until(lambda: bench.models and bench.models[-1].card.weights == NEW, what='the new reward')
    learned = sorted({round(reward, 4) for reward in rewards_learned(bench)})
    assert learned in ([round(reward_of(NEW), 4)], sorted(round(reward_of(weights), 4) for weights in (OWN, NEW)))


def test_a_planner_follows_at_once(make_trainer):
    bench = make_trainer()
    bench.connect()
    for weights in (OWN, NEW):
        bench.weights = weights
        bench.send_state()
        bench.say(Phase.EXPLORING)
    bench.spin_until(lambda: bench.said('reward changed: the agent follows at once'))
    bench.spin_until(lambda: bench.ready and bench.ready[-1].follow_s == 0.0)


def test_a_model_of_another_reward_is_trained_on_as_soon_as_the_weights_are_heard(make_trainer, tmp_path):
    first = trained(make_trainer, output_dir=str(tmp_path))
    first.close()
    bench = make_trainer(agent=FOLLOWER, model=str(tmp_path / 'model.safetensors'), **{'schedule.min_new_transitions': 50})
    bench.connect()
    bench.weights = OTHER
    bench.episode(55)
    bench.spin_until(lambda: bench.said('retraining: reward changed (0 of 3 rounds)'))
    bench.spin_until(lambda: bench.models and bench.models[-1].card.weights == OTHER)
