"""The values that travel between the parts: state, transition, model, plan.

They are plain and immutable, so threads may share them and a node may keep one while a newer one arrives.
"""

import dataclasses
import enum
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mbrl_ros.errors import MeasurementError

if TYPE_CHECKING:
    # Only annotations name torch: nodes that only move data start without it, in half the memory.
    import torch

#: A stamp older than the newest by more than this means that the clock was set back, as by a restarted simulator.
_CLOCK_RESET_NS = 1_000_000_000
#: Entries of a goal.
GOAL_SIZE = 3
#: Entry of an applied command's named vector that says that the arm was held.
_HELD = 'held'
#: Virtual joints of a tracked body: metres, then radians (fixed-axis roll, pitch, yaw).
BODY_JOINTS = ('x', 'y', 'z', 'roll', 'pitch', 'yaw')


def body_joint_names(body: str) -> tuple[str, ...]:
    """Names of a tracked body's six virtual joints, e.g. `object_x … object_yaw`."""
    return tuple(f'{body}_{axis}' for axis in BODY_JOINTS)


@dataclasses.dataclass(frozen=True)
class RobotState:
    """One filtered, task-free state: the arm's joints, the gripper's opening, and six virtual joints per tracked body.

    Attributes:
        stamp_ns: When the state held, nanoseconds.
        names: The S entries' names, each once.
        position: Shape (S,), rad or m.
        velocity: Shape (S,), rad/s or m/s.

    Raises:
        MeasurementError: A name is repeated, or an array is not (S,).
    """

    stamp_ns: int
    names: tuple[str, ...]
    position: np.ndarray
    velocity: np.ndarray

    def __post_init__(self) -> None:
        size = len(self.names)
        if len(set(self.names)) != size:
            repeated = next(name for name, count in Counter(self.names).items() if count > 1)
            raise MeasurementError(f'state repeats the name {repeated!r}')
        for label in ('position', 'velocity'):
            array = np.asarray(getattr(self, label), dtype=np.float64)
            if array.shape != (size,):
                raise MeasurementError(f'state has {size} names but {label} has shape {array.shape}')
            object.__setattr__(self, label, array)

    def precedes_clock_reset(self, newest: 'RobotState', clock_ns: int | None = None) -> bool:
        """Whether this state, received after `newest`, has an older stamp because the clock was set back, and is not just late.

        Args:
            newest: Newest state so far.
            clock_ns: Simulated time, if stamps are made with it; it reveals a clock that was set back only a little.
        """
        behind_ns = newest.stamp_ns - self.stamp_ns
        return behind_ns > _CLOCK_RESET_NS or (behind_ns > 0 and clock_ns is not None and clock_ns < newest.stamp_ns)

    def after(self, duration_s: float) -> 'RobotState':
        """State extrapolated by its velocities."""
        return dataclasses.replace(self, stamp_ns=self.stamp_ns + round(duration_s * 1e9),
                                   position=self.position + duration_s * self.velocity)

    def obs(self, names: Sequence[str]) -> np.ndarray:
        """Observation of the named entries: positions, then velocities, shape (2 * len(names),).

        Raises:
            MeasurementError: A name is not in the state.
        """
        index = self._indices(names)
        return np.concatenate([self.position[index], self.velocity[index]])

    def positions(self, names: Sequence[str]) -> np.ndarray:
        """Positions of the named entries, shape (len(names),); raises like `obs`."""
        return self.position[self._indices(names)]

    def velocities(self, names: Sequence[str]) -> np.ndarray:
        """Velocities of the named entries, shape (len(names),); raises like `obs`."""
        return self.velocity[self._indices(names)]

    def _indices(self, names: Sequence[str]) -> list[int]:
        try:
            return [self.names.index(name) for name in names]
        except ValueError:
            missing = [name for name in names if name not in self.names]
            raise MeasurementError(f'state lacks {", ".join(missing)}; it has {", ".join(self.names)}') from None


@dataclasses.dataclass(frozen=True)
class ArmCommand:
    """What an action asks of the driver.

    Attributes:
        velocity: Velocities of the arm's joints, shape (J,), rad/s; not limited yet.
        opening_m: Opening of the gripper; None leaves it alone.
    """

    velocity: np.ndarray
    opening_m: float | None = None


@dataclasses.dataclass(frozen=True)
class AppliedCommand:
    """What was really sent to the driver, after the safety filter.

    Messages and bags have it as a named vector. If the gripper was commanded, it follows the joints: the gripper has a position
    and the velocity NaN, a joint has a velocity and the position NaN. NaN is ros2_control's "not commanded in this way". If the
    arm was held, the last entry is `held`, with the position 1.

    Attributes:
        stamp_ns: When the command takes effect.
        names: The J commanded joints.
        velocity: Shape (J,), rad/s (or m/s for a prismatic joint).
        opening_m: Commanded opening of the gripper; None if it was left alone.
        is_held: Whether the controller or the command guard held the arm, so that nobody chose the velocities.
    """

    stamp_ns: int
    names: tuple[str, ...]
    velocity: np.ndarray
    opening_m: float | None = None
    is_held: bool = False

    @classmethod
    def of_vector(cls, stamp_ns: int, names: Sequence[str], position: Sequence[float],
                  velocity: Sequence[float]) -> 'AppliedCommand':
        """Inverse of `vector`.

        Raises:
            MeasurementError: Lengths differ, or more than one entry has a position instead of a finite velocity.
        """
        place, speed = np.array(position, dtype=np.float64), np.array(velocity, dtype=np.float64)
        size = len(names)
        place = place if place.size else np.full(size, np.nan)
        is_held = list(names[-1:]) == [_HELD] and place.shape == speed.shape == (size,)
        if is_held:
            names, place, speed, size = names[:-1], place[:-1], speed[:-1], size - 1
        is_told = np.isfinite(place) & np.isnan(speed) if place.shape == speed.shape == (size,) else None
        if is_told is None or is_told.sum() > 1 or not np.isfinite(speed[~is_told]).all():
            raise MeasurementError(f'applied command needs {size} finite velocities, or for the gripper a position instead, got '
                                   f'velocities {speed.tolist()} and positions {list(position)}')
        joints = tuple(name for name, told in zip(names, is_told) if not told)
        return cls(stamp_ns, joints, speed[~is_told], float(place[is_told][0]) if is_told.any() else None, is_held)

    def ordered(self, joints: tuple[str, ...]) -> 'AppliedCommand':
        """The same command in another order of the joints.

        Raises:
            MeasurementError: It is not of exactly these joints.
        """
        if sorted(self.names) != sorted(joints):
            raise MeasurementError(f'command of {", ".join(self.names) or "no joint"}; the arm has {", ".join(joints)}')
        return dataclasses.replace(self, names=joints, velocity=self.velocity[[self.names.index(joint) for joint in joints]])

    def vector(self, gripper: str) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
        """Names, positions and velocities of the named vector; positions are empty if it has the joints alone."""
        more = ({} if self.opening_m is None else {gripper: self.opening_m}) | ({_HELD: 1.0} if self.is_held else {})
        if not more:
            return self.names, np.empty(0), self.velocity
        unset, told = np.full(len(self.names), np.nan), list(more.values())
        return (*self.names, *more), np.append(unset, told), np.append(self.velocity, np.full(len(told), np.nan))


@dataclasses.dataclass(frozen=True)
class DemonstratedAction:
    """An action that a demonstrator asks for, as received and unchecked.

    Attributes:
        stamp_ns: Stamp of the state that it answers, or the time of the request.
        names: Entries of the action.
        action: One number per entry, normalised to [-1, 1].
    """

    stamp_ns: int
    names: tuple[str, ...]
    action: np.ndarray


class Tag(enum.IntFlag):
    """Who chose a control step, if it was not the agent; several may be set."""

    DEMONSTRATED = 1  #: a demonstrator
    EXPLORED = 2      #: random motion
    HELD = 4          #: nobody: the controller or the command guard held the arm; nothing is learned from the step


@dataclasses.dataclass(frozen=True)
class Transition:
    """One control step of experience: `action` was held from `obs` until `next_obs`, one control period later.

    Attributes:
        obs: Shape (O,), as the space observes it.
        action: Shape (A,), normalised to [-1, 1].
        next_obs: Shape (O,).
        stamp_ns: When `obs` held.
        episode: Index of the episode.
        goal: Goal that was pursued, base frame, shape (3,), metres; NaN without one.
        reward: Reward of the step; NaN if unknown. The nodes leave it unknown, because goal and weights determine it.
        terminated: Whether the episode ended for good with this step, so that there is no reward after it.
        truncated: Whether the episode ended with this step, but could have gone on, as after a success or at a limit.
        tags: Who chose the action.
    """

    obs: np.ndarray
    action: np.ndarray
    next_obs: np.ndarray
    stamp_ns: int
    episode: int
    goal: Sequence[float] = (float('nan'),) * GOAL_SIZE
    reward: float = float('nan')
    terminated: bool = False
    truncated: bool = False
    tags: Tag = Tag(0)


class Phase(str, enum.Enum):
    """What the episode manager wants of the arm; the controller moves only in the first four."""

    DEMONSTRATED = 'demonstrated'  #: follow a demonstrator
    EXPLORING = 'exploring'        #: smooth random motion, while there is no model to plan with
    RUNNING = 'running'            #: pursue the goal
    HOMING = 'homing'              #: drive to the home position
    STOPPING = 'stopping'          #: come to a controlled stop
    RESETTING = 'resetting'        #: stand while the world is reset
    TRAINING = 'training'          #: stand until the model has learned from the episode
    WAITING = 'waiting'            #: stand until there is a state, a goal or a demonstrator
    FINISHED = 'finished'          #: stand; all episodes are done

    @property
    def is_episode(self) -> bool:
        """Whether control steps in this phase belong to an episode and become experience."""
        return self in (Phase.DEMONSTRATED, Phase.EXPLORING, Phase.RUNNING)


@dataclasses.dataclass(frozen=True)
class EpisodeReport:
    """The episode manager's report and mandate of one control tick; it states the wanted state, never a toggle.

    Attributes:
        stamp_ns: Stamp of the state that it is about.
        phase: What the arm is to do from here on.
        start_ns: When the phase began; ticks are counted from it.
        episode: Index of the episode, from 0.
        step: Control steps done in this episode, without those in which the arm was held.
        total_steps: The same of all episodes.
        reward: Reward of this tick.
        episode_return: Sum of rewards so far in this episode.
        distance_m: Distance to the goal, as the task measures it.
        success: Whether the episode has succeeded.
        goal_m: Goal position in the base frame, shape (3,).
        goal_stamp_ns: Stamp of the message with this goal.
        model_version: Smallest model version to plan with; 0 if any will do.
        held_steps: Control steps of all episodes in which the arm was held.
        reason: What went wrong in the phase before, or what the phase waits for, in words; empty for nothing.
        weights: Weights of the task's reward by term, from here on; empty for the task's own.

    Raises:
        MeasurementError: A count or the version is negative.
    """

    stamp_ns: int
    phase: Phase
    start_ns: int
    episode: int
    step: int
    total_steps: int
    reward: float
    episode_return: float
    distance_m: float
    success: bool
    goal_m: tuple[float, float, float]
    goal_stamp_ns: int
    model_version: int
    held_steps: int = 0
    reason: str = ''
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for label in ('episode', 'step', 'total_steps', 'model_version', 'held_steps'):
            if getattr(self, label) < 0:
                raise MeasurementError(f'EpisodeReport.{label} cannot be negative, got {getattr(self, label)}')

    @property
    def all_steps(self) -> int:
        """Control steps of all episodes, those in which the arm was held included; only a new count goes back."""
        return self.total_steps + self.held_steps


@dataclasses.dataclass(frozen=True)
class TrainingReport:
    """The model trainer's report of its last round.

    Attributes:
        stamp_ns: When the round began; if the episode manager waited for the round, the stamp of its report.
        trained_episode: Newest episode whose transitions were all in the round; -1 before the first.
        model_version: Version of the model now published; 0 before the first.
        accepted: Whether the round's model was published; a worse one is not.
        reason: Why, in words.
        num_transitions: Transitions trained on.
        holdout_rmse: Root mean squared one-step error of the model now in use on this round's held-out transitions, in units of
            the outputs' standard deviation.
        holdout_nll: Mean negative log-likelihood on the same transitions.
        duration_s: Wall time of the round.
        changed: Whether the model in use erred much more on new transitions than on those that it was trained on.
        warnings: What the user should know about the data or the model, a sentence each.
        retraining: Whether a policy or value has yet to catch up with new weights of the reward.
        follow_s: Time from the newest change of the weights until the agent followed it; 0 for an agent that follows at once, NaN
            before a change and while retraining.
        following: The same in words, with the number of rounds; empty before a change.
    """

    stamp_ns: int
    trained_episode: int
    model_version: int
    accepted: bool
    reason: str
    num_transitions: int
    holdout_rmse: float
    holdout_nll: float
    duration_s: float
    changed: bool = False
    warnings: tuple[str, ...] = ()
    retraining: bool = False
    follow_s: float = float('nan')
    following: str = ''


#: Tags of steps in phases in which the agent does not choose the action.
TAGS = {Phase.DEMONSTRATED: Tag.DEMONSTRATED, Phase.EXPLORING: Tag.EXPLORED}


class DynamicsModel(Protocol):
    """Anything that predicts can be planned with.

    Attributes:
        ensemble_size: E, number of members.
        obs_size: O.
        action_size: A.
        output_scale: Typical change of each entry of obs in one step, shape (O,); the unit of disagreement.
    """

    ensemble_size: int
    obs_size: int
    action_size: int
    output_scale: 'torch.Tensor'

    def predict(self, obs: 'torch.Tensor', action: 'torch.Tensor') -> 'tuple[torch.Tensor, torch.Tensor]':
        """Predict one control period ahead; each member predicts its own batch.

        Args:
            obs: Shape (E, B, O).
            action: Shape (E, B, A), normalised to [-1, 1].

        Returns:
            Mean and standard deviation of the next observation, each of shape (E, B, O).
        """


class WorldModel(DynamicsModel, Protocol):
    """A model with a latent state that also predicts rewards, ends and values.

    A plain `DynamicsModel` predicts observations, and only the objective gives rewards. Here `obs_size` is S, the size of a
    latent state, and `predict` takes and returns latent states.

    Attributes:
        sensed_size: O, size of the observation that `start` takes.
    """

    sensed_size: int

    def start(self, obs: 'torch.Tensor') -> 'torch.Tensor':
        """Encode an observation, shape (O,), as the state to plan from, shape (S,)."""

    def outcome(self, state: 'torch.Tensor', action: 'torch.Tensor',
                next_state: 'torch.Tensor') -> 'tuple[torch.Tensor, torch.Tensor]':
        """Predict reward and end of a step; leading axes broadcast against each other.

        Args:
            state: Shape (..., S).
            action: Shape (..., A), normalised to [-1, 1].
            next_state: Shape (..., S).

        Returns:
            Reward and probability of an end, each of shape (...).
        """

    def value(self, state: 'torch.Tensor') -> 'torch.Tensor':
        """Predict the return after the horizon, shape (...), for last states of shape (..., S)."""


def is_world_model(model: DynamicsModel) -> bool:
    """Whether a model is a `WorldModel`; faster than `isinstance` with a protocol, because every plan asks."""
    return hasattr(model, 'outcome')


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a planner found.

    Attributes:
        actions: Best sequence, shape (H, A), normalised to [-1, 1].
        value: Its return, aggregated over particles.
        value_std: Standard deviation of its return over particles.
        mean_obs: Predicted observations along the sequence, particle mean, shape (H + 1, O); row 0 is the start.
        disagreement: Standard deviation of the members' mean predictions, largest over steps, in units of `output_scale`.
        elites: Best sequences of the last iteration, best first, shape (K, H, A).
        elite_values: Their returns, shape (K,).
        iterations: Iterations done before the deadline.
        num_nonfinite: Candidates with a diverged rollout, whose return counts as minus infinity.
        elapsed_s: Planning time.
    """

    actions: np.ndarray
    value: float
    value_std: float
    mean_obs: np.ndarray
    disagreement: float
    elites: np.ndarray
    elite_values: np.ndarray
    iterations: int
    num_nonfinite: int
    elapsed_s: float
