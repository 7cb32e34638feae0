"""The named holds: why the arm stands, and how each hold ends."""

import enum


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
    NO_GUARD = ('no_guard', 'The command guard is silent, and no command would reach the arm.',
                'Ends when the command guard speaks again.')
    OTHER_COMMANDER = ('other_commander', "Someone else publishes on the arm's command topic, or has its controller pursue a "
                                           'goal, or a second controller commands the guard.',
                       'Ends when the other publisher, or the goal, is gone.')
    CONTROLLER_INACTIVE = ('controller_inactive', "The driver's controller is not active; another may have its interfaces.",
                           'Ends when the controller manager says that it is active.')
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
    NOT_FOLLOWING = ('not_following', 'A joint does not do what it is told.',
                     'Ends after `guard.following.settle_s`, doubled with each hold in a row; the arm then starts from where '
                     'it is.')
    TOO_FAST = ('too_fast', 'A joint moves much faster than its velocity limit.', 'Ends as `not_following` does.')
    LATE_TICK = ('late_tick', 'The guard has just started, or was kept from running for a control period.',
                 'Ends with the next command.')
    NO_COMMAND = ('no_command', 'No command of the controller has arrived for 1.5 control periods.',
                  'Ends with the next command.')
    COMMAND_REFUSED = ('command_refused', 'The safety filter could not check the command.',
                       'Ends when it can check a command.')


#: Holds of the agent's own making; they use up the episode as any other decision does.
OF_AGENT = (HoldReason.PLANNING_FAILED, HoldReason.NONFINITE_PLAN, HoldReason.DEADLINE_MISSED, HoldReason.DISAGREEMENT)
#: Holds of a command guard that is only waiting for the controller.
IDLE = (HoldReason.NO_COMMAND, HoldReason.LATE_TICK)
