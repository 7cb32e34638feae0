"""Inputs and outcome of one control tick, as plain values, so that a tick can be replayed."""

import dataclasses
import math

import numpy as np

from mbrl_ros.agents.agent import Agent, Decision
from mbrl_ros.config import Config, section, setting
from mbrl_ros.control.safety.command_filter import CommandFilterConfig
from mbrl_ros.control.safety.reasons import HoldReason
from mbrl_ros.control.safety.state_watch import StateWatchConfig
from mbrl_ros.errors import ConfigError
from mbrl_ros.types import AppliedCommand, DemonstratedAction, EpisodeReport, Phase, RobotState


@dataclasses.dataclass(frozen=True)
class ControllerConfig(Config):
    """Settings of the controller, its command filter and its state watch."""

    require_mandate: bool = setting(True, 'Whether the arm needs a mandate of the episode manager; otherwise a goal suffices.')
    max_mandate_age_s: float = setting(0.5, 'Oldest report of the episode manager that counts.', unit='s', low=0.01, high=60.0)
    max_guard_silence_s: float = setting(0.5, 'Longest silence of the command guard by which the arm moves.', unit='s', low=0.2,
                                         high=60.0)
    max_demonstration_age_s: float = setting(0.3, 'Oldest demonstrated action that is followed.', unit='s', low=0.01, high=60.0,
                                             live=True)
    plan_budget_periods: float = setting(0.64, 'Time given to the agent for a decision.', unit='control periods', low=0.001,
                                         high=100.0, live=True)
    plan_deadline_periods: float = setting(0.8, 'Time from which a decision is too late.', unit='control periods',
                                           low=0.001, high=100.0, live=True)
    max_tail_steps: int = setting(3, 'Ticks without a plan in time that the last plan is followed.', low=0, high=20, live=True)
    max_disagreement: float = setting(5.0, 'Uncertainty of the agent, in typical changes of one step, that stops the arm.',
                                      low=0.0, live=True)
    slow_from: float = setting(0.7, 'Share of max_disagreement from which the arm slows down, to stand at the whole of it.',
                               low=0.0, high=1.0, live=True)
    num_zero_commands: int = setting(5, 'Zero commands sent after a stop, before silence.', low=1, high=1000)
    exploration_scale: float = setting(0.5, 'Share of the velocity limits that exploring uses.', low=0.0, high=1.0)
    homing_scale: float = setting(0.5, 'Largest share of the velocity limits on the way home.', low=0.01, high=1.0)
    homing_gain_per_s: float = setting(2.0, 'Velocity home for each radian of error.', unit='1/s', low=0.01, high=10.0)
    safety: CommandFilterConfig = section(CommandFilterConfig, 'The command filter.')
    state: StateWatchConfig = section(StateWatchConfig, 'Which states may be acted on.')

    def check(self) -> None:
        """Raise `ConfigError` when decisions get more time than they may take."""
        if self.plan_budget_periods > self.plan_deadline_periods:
            raise ConfigError('ControllerConfig.plan_budget_periods needs at most plan_deadline_periods '
                              f'{self.plan_deadline_periods}, got {self.plan_budget_periods}')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Received:
    """The newest value of each input; None where nothing has arrived.

    Attributes:
        state: Newest state.
        state_received_s: When the state arrived, by the steady clock.
        report: Newest report of the episode manager.
        weights: Weights of the reward in that report; None for the task's own.
        goal_m: Newest goal from the goal topic, shape (3,).
        goal_stamp_ns: Stamp of that goal.
        agent: The agent, with the newest bundle that fits.
        bundle_refused: Whether the last bundle does not fit.
        demonstrated: Newest demonstrated action.
        guard_hold: Why the command guard holds the arm, and more about it; None where it follows the controller.
        guard_received_s: When the command guard last spoke, by the steady clock.
    """

    state: RobotState | None = None
    state_received_s: float = 0.0
    report: EpisodeReport | None = None
    weights: Config | None = None
    goal_m: np.ndarray | None = None
    goal_stamp_ns: int = 0
    agent: Agent | None = None
    bundle_refused: bool = False
    demonstrated: DemonstratedAction | None = None
    guard_hold: tuple[HoldReason, str] | None = None
    guard_received_s: float = -math.inf


@dataclasses.dataclass(frozen=True, kw_only=True)
class TickInputs(Received):
    """All inputs of a tick.

    Attributes:
        now_ns: Time of the tick, by the clock of the stamps.
        effect_ns: When a command sent now will take effect.
        guard_silence_s: Time since the command guard last spoke; 0 where it need not speak.
        active: Whether the controller may move the arm at all.
        anytime: Whether decisions have a deadline; without one they are repeatable.
        lockstep: Whether the simulator waits for each command.
    """

    now_ns: int
    effect_ns: int
    guard_silence_s: float = 0.0
    active: bool = True
    anytime: bool = True
    lockstep: bool = False


@dataclasses.dataclass(frozen=True)
class TickOutcome:
    """Outcome of a tick.

    Attributes:
        velocity: Arm command, shape (J,), rad/s; None for silence.
        opening_m: Gripper command; None for none.
        applied: The same commands with the time at which they take effect, for the record; None for silence.
        hold: Why the arm is kept still; None while it moves.
        detail: More about the hold, or the note of the decision that is followed, in words; may be empty.
        decision: The agent's decision, if the agent was asked.
        phase: Phase that was followed, if any.
        clamped: Rules of the safety filter that acted.
        state_age_s: Age of the state; NaN without one.
        is_late: Whether the decision came too late; without a deadline it is followed all the same.
        misses: Number of late decisions so far.
        on_tail: Whether the command comes from an earlier plan.
        model_version: Version of the agent's bundle; 0 without one.
    """

    velocity: np.ndarray | None
    opening_m: float | None
    applied: AppliedCommand | None
    hold: HoldReason | None
    detail: str
    decision: Decision | None
    phase: Phase | None
    clamped: tuple[str, ...]
    state_age_s: float
    is_late: bool
    misses: int
    on_tail: bool
    model_version: int
