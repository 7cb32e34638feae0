"""Nodes of the running stack killed or frozen in lockstep: time stands until they are back, and the run goes on."""

from collections.abc import Iterator

import pytest
from support.live_stack import Stack


@pytest.fixture(scope='module')
def steady(tmp_path_factory) -> Iterator[Stack]:
    """In lockstep, with as little random motion as learning needs, for its episodes are the longest."""
    stack = Stack(tmp_path_factory.mktemp('steady'), lockstep=True, explorations=0)
    yield stack
    stack.close()


# The simulator first, within its first second, and last: it takes its clock back by little, and by much.
@pytest.mark.timeout(150)
@pytest.mark.parametrize('nodes', ['arm_simulator', 'command_guard', 'mpc_controller', 'state_estimator', 'episode_manager',
                                   'experience_logger model_trainer', 'arm_simulator'])
def test_in_lockstep_time_stands_while_a_node_is_missing_and_the_run_goes_on(steady, nodes):
    killed_s = steady.kill_in_motion(*nodes.split())
    if ' ' not in nodes:
        dead = [motion.stamp_ns for motion in steady.listener.motion if killed_s + 0.2 < motion.arrival_s < killed_s + 0.5]
        assert len(set(dead)) <= 1
    steady.go_on()


@pytest.mark.parametrize('node', ['command_guard', 'mpc_controller', 'state_estimator', 'arm_simulator'])
def test_in_lockstep_time_stands_while_a_node_is_frozen(steady, node):
    frozen_s, thawed_s = steady.freeze_in_motion(node)
    stamps = {motion.stamp_ns for motion in steady.listener.motion if frozen_s + 0.2 < motion.arrival_s < thawed_s}
    assert len(stamps) <= 1
    steady.go_on()


def test_in_lockstep_an_interrupt_ends_everything_in_time(steady):
    steady.end_cleanly()
