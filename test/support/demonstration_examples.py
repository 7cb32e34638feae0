"""Small recordings of demonstrated episodes over a table, for tests of what is learned from them."""

from pathlib import Path

import numpy as np

from mbrl_ros.experience.bags.writer import BagWriter
from mbrl_ros.types import AppliedCommand, EpisodeReport, Phase, RobotState, body_joint_names
from support.experience_examples import APPLIED, EPISODE, ROBOT, STATE, bag_topic, serialised, string

CONFIGURATION = bag_topic('/configuration', 'std_msgs/msg/String', latched=True)
NAMES = (*ROBOT.state_names, *body_joint_names('object'))
OPEN_M = 0.06
_STATE_NS = 10_000_000
#: Control steps that the arm stands after an episode.
_STANDING = 3


def demonstration(num_episodes: int = 2, steps: int = 12, *, phase: Phase = Phase.DEMONSTRATED, period_ns: int = 50_000_000,
                  names: tuple[str, ...] = NAMES, seed: int = 0) -> list:
    """Core values in the order in which they are published; every other episode succeeds, the first among them."""
    rng = np.random.default_rng(seed)
    messages, tick_ns, total = [], 0, 0
    for episode in range(num_episodes):
        start_ns, position = tick_ns, np.zeros(len(names))
        position[:8] = [*ROBOT.home_rad, OPEN_M][:len(names)]
        for step in range(steps + _STANDING):
            is_over, shown = step >= steps, min(step, steps)
            now, since_ns = (Phase.STOPPING, tick_ns) if is_over else (phase, start_ns)
            for stamp_ns in range(tick_ns - period_ns + _STATE_NS, tick_ns + 1, _STATE_NS):
                messages.append(RobotState(stamp_ns, names, position.copy(), rng.normal(0.0, 0.1, len(names))))
                position = position + rng.normal(0.0, 0.001, len(names))
            success = is_over and episode % 2 == 0
            messages.append(EpisodeReport(tick_ns, now, since_ns, episode, shown, total + shown, -0.1, -0.1 * shown,
                                          0.01 * (1 + episode), success, (0.5, 0.0, 0.12), start_ns, 0))
            velocity = np.zeros(7) if is_over else rng.normal(0.0, 0.1, 7)
            messages.append(AppliedCommand(tick_ns, ROBOT.joints, velocity, None if is_over else OPEN_M))
            tick_ns += period_ns
        total += steps
    return messages


def write_bag(path: Path, values: list, *, task: str = 'lift') -> Path:
    """Write such values as a recording of the stack with that task."""
    with BagWriter(path, (STATE, APPLIED, EPISODE, CONFIGURATION)) as writer:
        writer.write('/configuration', string(f'{{"mpc_controller": {{"task": "{task}"}}}}'), 0, 0)
        for value in values:
            writer.write(*serialised(value), max(value.stamp_ns, 0) + 1_000, max(value.stamp_ns, 0))
    return path
