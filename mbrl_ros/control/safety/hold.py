"""Named holds: why the arm stands, what that means, and how it comes to move again.

A hold is never a lone zero: the arm is braked within its acceleration limits, told zero a few times in case a command
is lost, and then left alone, so that another commander can take over.
"""

import enum
import threading
from pathlib import Path

import numpy as np

from mbrl_ros.control.safety.command_filter import CommandFilter


class HoldReason(str, enum.Enum):
    """Why the controller keeps the arm still; the documentation's table is made from these."""

    explanation: str
    way_back: str

    def __new__(cls, value: str, explanation: str, way_back: str) -> 'HoldReason':
        """Attach the two sentences of the documentation to the name."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.explanation = explanation
        member.way_back = way_back
        return member

    NOT_ACTIVE = ('not_active', 'The controller node is not in its active state.', 'Activate the node.')
    EMERGENCY_STOP = ('emergency_stop', 'The emergency stop was pressed; it stays latched.', 'Call ~/release.')
    OTHER_COMMANDER = ('other_commander', "Someone else publishes on the arm's command topic.",
                       'By itself, when the other publisher is gone.')
    NO_STATE = ('no_state', 'No state has arrived yet.', 'By itself, with the first state.')
    STATE_INCOMPLETE = ('state_incomplete', 'The state lacks a joint or holds a number that is not finite.',
                        'By itself, with the next sound state.')
    STALE_STATE = ('stale_state', 'The newest state is too old.', 'By itself, with the next fresh state.')
    FUTURE_STATE = ('future_state', 'The newest state is stamped in the future; clocks disagree.',
                    'By itself, once stamps and clock agree.')
    STATE_JUMP = ('state_jump', 'A joint moved further between two states than it can.',
                  'By itself, after a time without another jump.')
    NO_MANDATE = ('no_mandate', 'The episode manager has not spoken yet.',
                  'By itself, with its first report; or run with require_mandate:=false.')
    STALE_MANDATE = ('stale_mandate', "The episode manager's newest report is too old.", 'By itself, with its next report.')
    PHASE = ('phase', 'The episode manager wants the arm to stand.', 'By itself, with the next phase of motion.')
    NO_GOAL = ('no_goal', 'No goal has arrived yet.', 'By itself, with the first goal.')
    GOAL_OUT_OF_REACH = ('goal_out_of_reach', 'The goal lies outside the workspace or is not finite.',
                         'By itself, with a goal that can be reached.')
    NO_MODEL = ('no_model', 'No model to plan with has arrived yet.', 'By itself, with the first model.')
    MODEL_MISMATCH = ('model_mismatch', 'The only model there is does not fit the robot, the task or the period.',
                      'By itself, with a model that fits.')
    PLANNING_FAILED = ('planning_failed', 'The planner found nothing that may be executed.',
                       'By itself, with the next sound plan.')
    NONFINITE_PLAN = ('nonfinite_plan', 'The plan holds numbers that are not finite.', 'By itself, with the next sound plan.')
    DEADLINE_MISSED = ('deadline_missed', 'No plan was ready in time for several ticks on end.',
                       'By itself, with the next plan in time.')
    DISAGREEMENT = ('disagreement', "The ensemble's members disagree too much about the plan.",
                    'By itself, when a better model or another goal brings them together.')
    NO_DEMONSTRATION = ('no_demonstration', 'No demonstrated action has arrived, or the newest is too old.',
                        'By itself, with the next one.')
    DEMONSTRATION_REFUSED = ('demonstration_refused', "The demonstrated action has other entries than the task's, or a number "
                                                      'that is not within [-1, 1].', 'By itself, with the next sound one.')
    COMMAND_REFUSED = ('command_refused', 'The safety filter could not check the command.',
                       'By itself, with the next command that it can check.')


class EmergencyStop:
    """Latched stop; may be pressed from any thread and in any state, and needs an explicit release.

    Args:
        latch_path: File that exists while the stop is pressed, so that the latch outlives a crash; None for none.
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
            OSError: It is latched, but a crash would lift it, because the file cannot be written.
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
    """The controlled stop: brake, a few zeros, then silence.

    Args:
        num_zeros: Zero commands sent after the arm was told to stand.
    """

    def __init__(self, num_zeros: int = 5) -> None:
        self._num_zeros = num_zeros
        self._zeros_sent = num_zeros

    @property
    def is_silent(self) -> bool:
        """Whether the sequence is over, as it is before the first motion."""
        return self._zeros_sent >= self._num_zeros

    def restart(self) -> None:
        """The arm was told to move: the next stop starts from the beginning."""
        self._zeros_sent = 0

    def step(self, command_filter: CommandFilter, dt: float) -> np.ndarray | None:
        """Next command of the stop, shape (J,), or None when all was said."""
        if self.is_silent:
            return None
        velocity = command_filter.brake(dt)
        if not velocity.any():
            self._zeros_sent += 1
        return velocity
