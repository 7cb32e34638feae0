"""Small discrete worlds as transitions: states and actions by number, without an environment."""

import numpy as np

from mbrl_ros.agents.bundle import Contract
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.spaces.numbering import Numbering
from mbrl_ros.spaces.outcome import OutcomeSpace

SECOND_NS = 1_000_000_000


def space_of(num_states, num_actions):
    """A space of so many states and actions, its contract, and their numbers."""
    numbering = Numbering((num_states,), (0,), (num_actions,))
    space = OutcomeSpace(('obs[0]',), tuple(f'action[{index}]' for index in range(num_actions)), is_reward_learned=True,
                         numbering=numbering)
    return space, Contract.of('dyna_q', space, robot='gymnasium', task='Chain-v0', period_s=1.0, reward='learned'), numbering


def steps(numbering, rows, *, begin=0):
    """Transitions of (state, action, reward, next state, end), where the end is '', 'terminated' or 'truncated'."""
    state, choice, reward, next_state, end = (np.array(column) for column in zip(*rows))

    def obs(states):
        return np.stack([states, np.zeros(len(states)), np.zeros(len(states))], axis=1).astype(np.float64)
    return Transitions.of(obs(state), np.array([numbering.action(index) for index in choice]), obs(next_state),
                          (begin + np.arange(len(rows))) * SECOND_NS, reward=reward, terminated=end == 'terminated',
                          truncated=end == 'truncated')
