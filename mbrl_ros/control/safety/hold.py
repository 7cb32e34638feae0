"""Named holds: why the arm stands, and how the hold ends.

In a hold the controller brakes the arm within its acceleration limits, sends zero a few times in case a message is lost, and
then falls silent, so that another commander can take over.
"""

import enum
import threading
from pathlib import Path

import numpy as np

from mbrl_ros.control.safety.command_filter import CommandFilter


class HoldReason(str, enum.Enum):
    """Why the controller keeps the arm still, with what `docs/safety.md` says of each hold."""

    explanation: str
    way_back: str

    def __new__(cls, value: str, explanation: str, way_back: str) -> 'HoldReason':
        """Make a member whose value is the name alone."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.explanation = explanation
        member.way_back = way_back
        return member

    NOT_ACTIVE = ('not_active', 'The controller node is not in its active state.', 'Activate the node.')
    EMERGENCY_STOP = ('emergency_stop', 'The emergency stop was pressed; it stays latched.', 'Call ~/release.')
    OTHER_COMMANDER = ('other_commander', "Someone else publishes on the arm's command topic.",
                       'Ends when the other publisher is gone.')
    NO_STATE = ('no_state', 'No state has arrived yet.', 'Ends when a state arrives.')
    STATE_INCOMPLETE = ('state_incomplete', 'The state lacks a joint or has a number that is not finite.',
                        'Ends when a complete, finite state arrives.')
    STALE_STATE = ('stale_state', 'The newest state is too old.', 'Ends when a fresh state arrives.')
    FUTURE_STATE = ('future_state', 'The stamp of the newest state is in the future; clocks disagree.',
                    'Ends when stamps and clock agree.')
    STATE_JUMP = ('state_jump', 'A joint moved further between two states than its velocity limit allows.',
                  'Ends after `control.state.jump_settle_s` without another jump.')
    NO_MANDATE = ('no_mandate', 'No report of the episode manager has arrived yet.',
                  'Ends when a report arrives; or run with require_mandate:=false.')
    STALE_MANDATE = ('stale_mandate', "The episode manager's newest report is too old.", 'Ends when a report arrives.')
    PHASE = ('phase', 'The episode manager wants the arm to stand.', 'Ends when a phase of motion begins.')
    NO_GOAL = ('no_goal', 'No goal has arrived yet.', 'Ends when a goal arrives.')
    GOAL_OUT_OF_REACH = ('goal_out_of_reach', 'The goal lies outside the workspace or is not finite.',
                         'Ends when a goal within reach arrives.')
    NO_MODEL = ('no_model', 'No model to plan with has arrived yet.', 'Ends when a model arrives.')
    MODEL_MISMATCH = ('model_mismatch', 'No model fits the robot, the task and the control period.',
                      'Ends when a model that fits arrives.')
    PLANNING_FAILED = ('planning_failed', 'The agent failed to plan.', 'Ends when the agent plans again.')
    NONFINITE_PLAN = ('nonfinite_plan', 'The plan has numbers that are not finite.', 'Ends when a plan is finite.')
    DEADLINE_MISSED = ('deadline_missed', 'No plan was in time for several ticks in a row.', 'Ends when a plan is in time.')
    DISAGREEMENT = ('disagreement', "The ensemble's members disagree too much about the plan.",
                    'Ends when they agree again, with a better model or another goal.')
    NO_DEMONSTRATION = ('no_demonstration', 'No demonstrated action has arrived, or the newest is too old.',
                        'Ends when one arrives.')
    DEMONSTRATION_REFUSED = ('demonstration_refused', "The demonstrated action has other entries than the task's, or a number "
                                                      'that is not within [-1, 1].', 'Ends when a valid one arrives.')
    COMMAND_REFUSED = ('command_refused', 'The safety filter could not check the command.', 'Ends when it can check a command.')


class EmergencyStop:
    """Latched stop: any thread may press it, in any state, and only `release` lifts it.

    Args:
        latch_path: File that exists while the stop is pressed, so that the latch outlives a crash; None for no file.
    """

    def __init__(self, latch_path: Path | None = None) -> None:
        self._pressed = threading.Event()
        self._latch_path = latch_path
        if latch_path is not None and latch_path.exists():
            self._pressed.set()

    @property
    def is_pressed(self) -> bool:
        """Whether the stop is latched."""
        return self._pressed.is_set()

    def press(self) -> None:
        """Latch the stop.

        Raises:
            OSError: The file cannot be written. The stop is latched all the same, but a crash would lift it.
        """
        self._pressed.set()
        if self._latch_path is not None:
            self._latch_path.parent.mkdir(parents=True, exist_ok=True)
            self._latch_path.touch()

    def release(self) -> None:
        """Let the arm move again.

        Raises:
            OSError: The file cannot be removed; the stop stays latched.
        """
        if self._latch_path is not None:
            self._latch_path.unlink(missing_ok=True)
        self._pressed.clear()


class StopSequence:
    """The controlled stop: braking, a few zeros, then silence; silent until the first `restart`.

    Args:
        num_zeros: Zero commands sent once the arm has braked.
    """

    def __init__(self, num_zeros: int = 5) -> None:
        self._num_zeros = num_zeros
        self._zeros_sent = num_zeros

    def restart(self) -> None:
        """Begin the next stop from its start; call it whenever the arm is told to move."""
        self._zeros_sent = 0

    def step(self, command_filter: CommandFilter, dt: float) -> np.ndarray | None:
        """Next command of the stop, shape (J,), rad/s; None for silence."""
        if self._zeros_sent >= self._num_zeros:
            return None
        velocity = command_filter.brake(dt)
        if not velocity.any():
            self._zeros_sent += 1
        return velocity
