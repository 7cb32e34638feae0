"""The controller: each tick it turns state, mandate, goal and agent into a command that may be sent.

The node and the loop without ROS run the same object. It never reads a clock, never waits, and never raises because of an
input: a bad input leads to a named hold.
"""

import dataclasses
from typing import Any

import numpy as np

from mbrl_ros.agents.agent import Decision
from mbrl_ros.control.demonstration import DemonstrationRefused, checked_action
from mbrl_ros.control.exploration import Exploration, homing_velocity
from mbrl_ros.control.safety.command_filter import CommandFilter
from mbrl_ros.control.safety.hold import StopSequence
from mbrl_ros.control.safety.reasons import HoldReason
from mbrl_ros.control.safety.state_watch import StateWatch
from mbrl_ros.control.tick import ControllerConfig, TickInputs, TickOutcome
from mbrl_ros.errors import MeasurementError, PlanningError, ShapeError
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.tasks.task import Task
from mbrl_ros.types import AppliedCommand, ArmCommand, EpisodeReport, Phase

_MOVING = (Phase.DEMONSTRATED, Phase.EXPLORING, Phase.RUNNING, Phase.HOMING)


@dataclasses.dataclass(frozen=True)
class _Wish:
    """A wanted command, or the reason to hold; then `velocity` is None."""

    velocity: np.ndarray | None = None
    opening_m: float | None = None
    hold: HoldReason | None = None
    detail: str = ''
    decision: Decision | None = None
    on_tail: bool = False


class Controller:
    """Chooses the arm's command, tick by tick.

    Args:
        robot: Profile of the arm.
        task: Observation and objective.
        config: Settings.
        period_s: Control period.
        seed: Seeds each episode together with the episode's index.
    """

    def __init__(self, robot: RobotProfile, task: Task, config: ControllerConfig, *, period_s: float,
                 seed: int = 0) -> None:
        self._robot, self._task = robot, task
        self._period_s, self._seed = period_s, seed
        self._memory: Any = None  # The agent's memory of the episode, made at its first decision.
        self._episode_seed = seed
        self._opening_m: float | None = None
        self._filter = CommandFilter(robot, config.safety)
        self._watch = StateWatch(robot, config.state)
        self._stop = StopSequence(config.num_zero_commands)
        self._exploration = Exploration(robot, config.exploration_scale, period_s)
        self._chapter: tuple[int, Phase, int] | None = None
        self._tail: tuple[int, np.ndarray] | None = None
        self._tail_steps = 0
        self._misses, self._is_uncertain = 0, False
        self.configure(config)

    @property
    def num_joints(self) -> int:
        """Number of commanded joints, J."""
        return len(self._robot.joints)

    def configure(self, config: ControllerConfig) -> None:
        """Use other settings from the next tick on; only those declared `live` take effect."""
        self._config = config
        self._filter.velocity_scale = config.safety.velocity_scale

    def tick(self, inputs: TickInputs) -> TickOutcome:
        """Choose the command of one control tick; only the agent's decision takes long."""
        phase = self._phase(inputs)
        self._start_phase(inputs.report if phase is not None else None)
        wish = self._hold(inputs, phase) or self._wish(inputs, phase)
        clamped = ()
        if wish.hold is None:
            self._stop.restart()
            latency_s = max(inputs.effect_ns - inputs.state.stamp_ns, 0) * 1e-9
            q = inputs.state.positions(self._robot.joints) + latency_s * self._filter.previous
            filtered = self._filter.apply(wish.velocity, q, self._period_s)
            velocity, clamped = filtered.velocity, filtered.clamped
            if filtered.refusal:
                wish = dataclasses.replace(wish, opening_m=None, hold=HoldReason.COMMAND_REFUSED, detail=filtered.refusal)
            self._opening_m = self._opening_m if wish.opening_m is None else wish.opening_m
        else:
            velocity = self._standing(inputs, phase, wish.hold)
        applied = None if velocity is None else AppliedCommand(inputs.effect_ns, self._robot.joints, velocity, wish.opening_m,
                                                               is_held=wish.hold is not None)
        age_s = float('nan') if inputs.state is None else (inputs.now_ns - inputs.state.stamp_ns) * 1e-9
        version = inputs.agent.version if inputs.agent is not None else 0
        is_late = wish.decision is not None and self._is_late(wish.decision)
        self._misses += is_late
        return TickOutcome(velocity, wish.opening_m, applied, wish.hold, wish.detail, wish.decision, phase, clamped, age_s,
                           is_late, self._misses, wish.on_tail, version)

    def _phase(self, inputs: TickInputs) -> Phase | None:
        """The phase to follow; None if a mandate is required and no valid one is there."""
        report = inputs.report
        if report is not None and self._is_fresh(report, inputs.now_ns):
            return report.phase
        return None if self._config.require_mandate else Phase.RUNNING

    def _is_fresh(self, report: EpisodeReport, now_ns: int) -> bool:
        return abs(now_ns - report.stamp_ns) <= self._config.max_mandate_age_s * 1e9

    def _start_phase(self, report: EpisodeReport | None) -> None:
        """Reset plan, seeds, memory and the state watch when a new phase of motion begins; the world may have been reset."""
        chapter = (report.episode, report.phase, report.start_ns) if report else None
        if chapter is None or chapter == self._chapter:
            return
        self._chapter = chapter
        self._forget_plan()
        self._opening_m = None
        if report.phase in _MOVING:
            self._watch.reset()
            self._exploration.reset(self._seed, report.episode)
            self._memory = None
            self._episode_seed = int(np.random.SeedSequence([self._seed, report.episode]).generate_state(1)[0])

    def _forget_plan(self) -> None:
        self._tail, self._tail_steps = None, 0

    def _hold(self, inputs: TickInputs, phase: Phase | None) -> _Wish | None:
        """The hold that applies before any phase is followed, if one does."""
        state_reason = self._watch.check(inputs.state, inputs.now_ns)
        if not inputs.active:
            return _Wish(hold=HoldReason.NOT_ACTIVE)
        if inputs.guard_silence_s > self._config.max_guard_silence_s:
            return _Wish(hold=HoldReason.NO_GUARD)
        if inputs.guard_hold is not None:
            hold, detail = inputs.guard_hold
            return _Wish(hold=hold, detail=detail)
        if state_reason and (state_reason is not HoldReason.STATE_JUMP or phase in _MOVING):
            return _Wish(hold=state_reason, detail=self._watch.detail)
        if phase is None and inputs.report is None:
            return _Wish(hold=HoldReason.NO_MANDATE)
        if phase is None:
            age_s = (inputs.now_ns - inputs.report.stamp_ns) * 1e-9
            detail = f'{age_s:.3f} s old, at most {self._config.max_mandate_age_s:g} s is allowed'
            return _Wish(hold=HoldReason.STALE_MANDATE, detail=detail)
        return None if phase in _MOVING else _Wish(hold=HoldReason.PHASE)

    def _wish(self, inputs: TickInputs, phase: Phase) -> _Wish:
        q = inputs.state.positions(self._robot.joints)
        if phase is Phase.EXPLORING:
            return _Wish(self._exploration.velocity(q))
        if phase is Phase.HOMING:
            return _Wish(homing_velocity(self._robot, q, self._config.homing_gain_per_s, self._config.homing_scale))
        return self._imitate(inputs) if phase is Phase.DEMONSTRATED else self._pursue(inputs)

    def _imitate(self, inputs: TickInputs) -> _Wish:
        try:
            action = checked_action(inputs.demonstrated, self._task.action_names, inputs.now_ns,
                                    self._config.max_demonstration_age_s)
        except DemonstrationRefused as refused:
            return _Wish(hold=refused.hold, detail=str(refused))
        return self._obey(action, inputs)

    def _pursue(self, inputs: TickInputs) -> _Wish:
        goal = self._goal(inputs)
        if goal is None:
            return _Wish(hold=HoldReason.NO_GOAL)
        if refusal := self._task.goal_refusal(goal):
            return _Wish(hold=HoldReason.GOAL_OUT_OF_REACH, detail=refusal)
        if inputs.agent is None or not inputs.agent.is_ready:
            return _Wish(hold=HoldReason.MODEL_MISMATCH if inputs.bundle_refused else HoldReason.NO_MODEL)
        try:
            decision = self._decide(inputs, goal)
        except ShapeError as error:
            return _Wish(hold=HoldReason.MODEL_MISMATCH, detail=str(error))
        except MeasurementError as error:
            return _Wish(hold=HoldReason.STATE_INCOMPLETE, detail=str(error))
        except PlanningError as error:
            return _Wish(hold=HoldReason.PLANNING_FAILED, detail=str(error))
        except Exception as error:  # A bug in an agent must end in a hold, not in a dead control thread.
            return _Wish(hold=HoldReason.PLANNING_FAILED, detail=f'{type(error).__name__}: {error}')
        return self._judge(inputs, decision)

    def _goal(self, inputs: TickInputs) -> np.ndarray | None:
        """The newer of the manager's goal and the goal topic's; in lockstep always the manager's.

        With a manager, a goal out of reach on the topic is ignored: the manager refuses it and keeps its goal.
        """
        report = inputs.report if inputs.report and self._is_fresh(inputs.report, inputs.now_ns) else None
        if report and (inputs.lockstep or inputs.goal_m is None or inputs.goal_stamp_ns < report.goal_stamp_ns
                       or self._task.goal_refusal(inputs.goal_m)):
            return np.array(report.goal_m)
        return inputs.goal_m

    def _decide(self, inputs: TickInputs, goal: np.ndarray) -> Decision:
        agent, space = inputs.agent, self._task.space
        if self._memory is None:
            self._memory = agent.reset(self._episode_seed)
        previous = space.action(ArmCommand(self._filter.previous, self._opening_m), inputs.state)
        latency_s = max(inputs.effect_ns - inputs.state.stamp_ns, 0) * 1e-9
        obs = agent.predict(space.observe(inputs.state), previous, latency_s)
        if obs is None:
            obs = space.observe(inputs.state.after(latency_s))
        budget_s = self._config.plan_budget_periods * self._period_s if inputs.anytime else None
        return agent.act(obs, goal, self._memory, objective=self._task.objective(goal, inputs.weights), previous_action=previous,
                         deadline_s=budget_s)

    def _judge(self, inputs: TickInputs, decision: Decision) -> _Wish:
        """Follow a decision, or hold if it is not finite, too uncertain or too late."""
        if not decision.is_finite:
            self._forget_plan()
            return _Wish(hold=HoldReason.NONFINITE_PLAN, decision=decision)
        # Once it has stopped the arm, uncertainty has to fall as far as where the arm slows down.
        share = self._config.slow_from if self._is_uncertain else 1.0
        limit = share * self._config.max_disagreement
        self._is_uncertain = decision.uncertainty is not None and decision.uncertainty > limit
        if self._is_uncertain:
            self._forget_plan()
            detail = f'{decision.uncertainty:.2f}, at most {limit:.2f} is allowed'
            return _Wish(hold=HoldReason.DISAGREEMENT, detail=detail, decision=decision)
        if inputs.anytime and self._is_late(decision):
            return self._follow_tail(inputs, decision)
        self._tail = None if decision.plan is None else (inputs.effect_ns, decision.plan.actions)
        self._tail_steps = 0
        wish = self._obey(decision.action, inputs, detail=decision.note, decision=decision)
        return dataclasses.replace(wish, velocity=self._share(decision) * wish.velocity)

    def _share(self, decision: Decision) -> float:
        """Share of the wanted velocity that the uncertainty of a decision allows."""
        if decision.uncertainty is None or self._config.max_disagreement == 0.0:
            return 1.0
        missing = 1.0 - decision.uncertainty / self._config.max_disagreement
        return float(np.clip(missing / (1.0 - self._config.slow_from + 1e-9), 0.0, 1.0))

    def _follow_tail(self, inputs: TickInputs, late: Decision) -> _Wish:
        """After a late decision, follow the last plan for a few ticks, then hold."""
        self._tail_steps += 1
        allowed_s = self._config.plan_deadline_periods * self._period_s
        detail = f'{late.elapsed_s * 1e3:.0f} ms, at most {allowed_s * 1e3:.0f} ms is in time'
        if self._tail is not None and self._tail_steps <= self._config.max_tail_steps:
            start_ns, actions = self._tail
            index = round((inputs.effect_ns - start_ns) * 1e-9 / self._period_s)
            if 0 <= index < len(actions):
                return self._obey(actions[index], inputs, detail=detail, decision=late, on_tail=True)
        return _Wish(hold=HoldReason.DEADLINE_MISSED, detail=detail, decision=late)

    def _obey(self, action: np.ndarray, inputs: TickInputs, **also: Any) -> _Wish:
        command = self._task.space.command(action, inputs.state)
        return _Wish(command.velocity, command.opening_m, **also)

    def _is_late(self, decision: Decision) -> bool:
        return decision.elapsed_s > self._config.plan_deadline_periods * self._period_s

    def _standing(self, inputs: TickInputs, phase: Phase | None, hold: HoldReason) -> np.ndarray | None:
        """Next command of the controlled stop; None for silence.

        Zeros go on in phase STOPPING, in which the manager waits for the arm to stand, and during an episode in lockstep,
        where the simulator waits for each command; a node that is not active says nothing once the arm stands.
        """
        velocity = self._stop.step(self._filter, self._period_s)
        watched = phase is Phase.STOPPING or (inputs.lockstep and phase in _MOVING)
        if velocity is None and watched and hold is not HoldReason.NOT_ACTIVE:
            return self._filter.brake(self._period_s)
        return velocity
