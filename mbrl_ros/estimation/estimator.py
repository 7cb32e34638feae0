"""The state estimator: checked readings in, in any order; one filtered state for any later moment out.

The estimate for time t applies exactly the readings stamped t or earlier, in the order of their stamps. So equal readings give
equal states, whatever their order of arrival.
"""

import dataclasses
import enum
import heapq
from collections import Counter
from collections.abc import Sequence

import numpy as np

from mbrl_ros.errors import ConfigError, shortened
from mbrl_ros.estimation.config import EstimatorConfig, NoiseConfig
from mbrl_ros.estimation.jumps import JumpDetector
from mbrl_ros.estimation.kalman import ChannelNoise, KalmanBank
from mbrl_ros.estimation.measurements import (
    BodyMeasurement,
    JointMeasurement,
    JointReader,
    Reading,
    RefusalError,
    nearest_angles,
    read_body,
)
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.types import RobotState, body_joint_names

_NS_PER_S = 1_000_000_000
_CLOCK_SLACK_NS = _NS_PER_S
_MAX_WAITING = 4096
_AGREEMENT_STDS = 8.0


class Status(str, enum.Enum):
    """How far the state can be trusted."""

    WAITING = 'waiting'    #: a joint, gripper or body was never measured; there is no state
    TRACKING = 'tracking'  #: the arm was measured a moment ago
    COASTING = 'coasting'  #: the arm is predicted through a dropout
    LOST = 'lost'          #: the dropout has lasted too long; there is no state


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The estimate for one moment.

    Attributes:
        stamp_ns: The moment.
        status: How far the state can be trusted.
        reason: What is wrong, in words; empty if nothing is.
        state: The state; None while waiting or lost.
        age_s: Largest time since the last measurement of an arm joint; infinite while waiting.
        held: Gripper and bodies out of sight, which are held at rest where they were.
    """

    stamp_ns: int
    status: Status
    reason: str
    state: RobotState | None
    age_s: float
    held: tuple[str, ...] = ()


class StateEstimator:
    """Filter over the arm's joints, the gripper's opening and six virtual joints for each tracked body.

    The arm's measurements decide the status, because moving an arm at an unknown position would be unsafe. Gripper and bodies may
    be out of sight for longer: they keep their last velocity until `hold_after_s` and are then held at rest.

    Joints that turn without end, and the angles of bodies, are followed through half turns. An endless joint starts at the turn
    nearest to home, and does so again after a jump, as when the simulated arm is put home.

    Args:
        robot: The arm and gripper.
        body_names: Tracked bodies.
        config: Settings.
        in_order: Whether the messages of each source come in the order of their stamps, as in lockstep; an older stamp then means
            that the clock was set back.

    Attributes:
        names: The S entries of the state.
        counts: Unused measurements (`RefusalError.reason`, `outlier`, `late`, `repeated`) and events (`jump`, `restart`).

    Raises:
        ConfigError: Two entries have the same name.
    """

    def __init__(self, robot: RobotProfile, body_names: Sequence[str] = (), config: EstimatorConfig | None = None, *,
                 in_order: bool = False) -> None:
        self._config = config or EstimatorConfig()
        self._in_order = in_order
        self._arm = np.arange(len(robot.joints))
        self.names = robot.state_names + tuple(name for body in body_names for name in body_joint_names(body))
        if len(set(self.names)) != len(self.names):
            raise ConfigError(f'state entries need different names, got {", ".join(self.names)}')
        self._bodies = {body: len(robot.state_names) + 6 * index + np.arange(6) for index, body in enumerate(body_names)}
        #: Entries that are seen or lost together: each arm joint, the gripper, and each body.
        self._sources = {name: np.array([index]) for index, name in enumerate(robot.state_names)} | self._bodies
        self._robot = robot
        self._noise = _entry_noise(robot, len(body_names), self._config)
        self._home = np.array(robot.home_rad)
        self.counts: Counter[str] = Counter()
        self._notices: list[str] = []
        self._joint_reader = JointReader(robot.joints, robot.gripper)
        self._forget()

    def on_joints(self, measurement: JointMeasurement, now_ns: int) -> None:
        """Take one joint state message.

        Args:
            measurement: The message.
            now_ns: Time of the clock, for checking the stamp.

        Raises:
            RefusalError: The message cannot be used; it is counted and changes nothing.
        """
        try:
            channels = [channel for channel in self._arm if self._robot.joints[channel] in measurement.names]
            self._check_stamp(measurement.stamp_ns, channels, now_ns)
            reading = self._joint_reader.read(measurement)
        except RefusalError as error:
            self.counts[error.reason] += 1
            raise
        if unknown := self._joint_reader.new_unknown(measurement.names):
            names = shortened(', '.join(unknown))
            self._notices.append(f'joint states carry {names}, which {self._robot.name!r} does not have; ignored')
        self._keep(reading)

    def on_body(self, measurement: BodyMeasurement, now_ns: int) -> None:
        """Take one pose message; arguments as for `on_joints`.

        Raises:
            RefusalError: As for `on_joints`, or the body is not tracked, or the pose is in another frame.
        """
        try:
            if measurement.body not in self._bodies:
                tracked = ', '.join(self._bodies) or 'nothing'
                raise RefusalError('unknown', f'pose of {measurement.body!r}, but tracked is {tracked}')
            if measurement.frame not in ('', self._robot.base_link):
                raise RefusalError('frame', f'pose of {measurement.body!r} is in the frame {measurement.frame!r}; '
                                            f'it needs {self._robot.base_link!r}')
            first = self._bodies[measurement.body][0]
            self._check_stamp(measurement.stamp_ns, [first], now_ns)
            self._keep(read_body(measurement, first))
        except RefusalError as error:
            self.counts[error.reason] += 1
            raise

    @property
    def received_ns(self) -> np.ndarray:
        """Newest stamp received for each entry, used or not, shape (S,); -1 if there was none."""
        return self._received_ns.copy()

    @property
    def missing(self) -> list[str]:
        """Arm joints, gripper and bodies without any message yet; of a gripper seen in part, the missing fingers."""
        return [self._describe_missing(source) for source, channels in self._sources.items()
                if (self._received_ns[channels] < 0).any()]

    def take_notices(self) -> list[str]:
        """Log lines for the events since the last call: unknown joints, jumps, restarts of time."""
        notices, self._notices = self._notices, []
        return notices

    def estimate(self, stamp_ns: int) -> Estimate:
        """State at a moment no earlier than that of the previous call; earlier moments are `lost`."""
        while self._waiting and self._waiting[0][0] <= stamp_ns:
            self._apply(heapq.heappop(self._waiting)[2])
        unseen = [source for source, channels in self._sources.items() if not self._bank.seen[channels].all()]
        if unseen:
            what = ', '.join(map(self._describe_missing, unseen))
            return Estimate(stamp_ns, Status.WAITING, f'waiting for the first measurement of {what}', None, np.inf)
        elapsed = (stamp_ns - self._bank.stamp_ns) / _NS_PER_S
        age = float(elapsed[self._arm].max())
        if elapsed.min() < 0.0:
            reason = f'measurements up to {-elapsed.min():.3f} s later were already used'
            return Estimate(stamp_ns, Status.LOST, reason, None, age)
        if age > self._config.coast_limit_s:
            reason = f'{self._describe_silence(elapsed)}; the limit is {self._config.coast_limit_s:g} s'
            return Estimate(stamp_ns, Status.LOST, reason, None, age)
        state, held = self._extrapolate(stamp_ns, elapsed)
        reasons = [f'{", ".join(held)} out of sight, held at rest'] if held else []
        status = Status.TRACKING
        if age > self._config.coast_after_s:
            status = Status.COASTING
            reasons.insert(0, self._describe_silence(elapsed))
        return Estimate(stamp_ns, status, '; '.join(reasons), state, age, held)

    def _check_stamp(self, stamp_ns: int, channels: Sequence[int], now_ns: int) -> None:
        newest = int(self._received_ns.max())
        goes_back = self._in_order and (stamp_ns < self._received_ns[channels]).any()
        if newest > now_ns + (0 if goes_back else _CLOCK_SLACK_NS):
            self._forget()
            self.counts['restart'] += 1
            self._notices.append(f'the clock went back from {newest / _NS_PER_S:.3f} s to {now_ns / _NS_PER_S:.3f} s; '
                                 'estimation starts again')
            newest = -1
        ahead, limit = (stamp_ns - now_ns) / _NS_PER_S, self._config.future_limit_s
        if ahead > limit:
            raise RefusalError('stamp', f'stamp lies {ahead:.3f} s in the future; at most {limit:g} s is allowed')
        behind, limit = (max(now_ns, newest) - stamp_ns) / _NS_PER_S, self._config.past_limit_s
        if behind > limit or stamp_ns < 0:
            raise RefusalError('stamp', f'stamp lies {behind:.3f} s in the past; at most {limit:g} s is allowed')

    def _forget(self) -> None:
        config = self._config
        self._bank = KalmanBank(self._noise, gate_probability=config.gate_probability,
                                stay_probability=config.stay_probability, restart_after_s=config.restart_after_s)
        self._jumps = JumpDetector(_AGREEMENT_STDS * self._noise.position_std, self._noise.max_velocity, config.jump_measurements)
        self._received_ns = np.full(len(self.names), -1, dtype=np.int64)
        self._applied_ns = self._received_ns.copy()
        self._waiting: list[tuple[int, int, Reading]] = []
        self._order = 0

    def _keep(self, reading: Reading) -> None:
        if not len(reading.channels):
            return
        self._received_ns[reading.channels] = np.maximum(self._received_ns[reading.channels], reading.stamp_ns)
        heapq.heappush(self._waiting, (reading.stamp_ns, self._order, reading))
        self._order += 1
        if len(self._waiting) > _MAX_WAITING:
            self._apply(heapq.heappop(self._waiting)[2])

    def _apply(self, reading: Reading) -> None:
        channels = reading.channels
        late = reading.stamp_ns <= self._applied_ns[channels]
        if late.any():
            # A driver may repeat a measurement. If each copy counted, the state would depend on the number of copies.
            self.counts['repeated' if (reading.stamp_ns == self._applied_ns[channels]).all() else 'late'] += 1
            channels = channels[~late]
            reading = Reading(reading.stamp_ns, channels, reading.position[~late], reading.velocity[~late])
        if not len(channels):
            return
        self._applied_ns[channels] = reading.stamp_ns
        is_body = channels[0] >= len(self._robot.state_names)
        position = self._continued_body(reading) if is_body else self._continued_joints(reading)
        accepted = self._bank.update(channels, reading.stamp_ns, position, reading.velocity, together=is_body)
        jumped = self._jumps.note(channels, accepted, reading.stamp_ns, position, together=is_body)
        self.counts['outlier'] += int(not accepted.all())
        if jumped.any():
            if not is_body:
                position = self._unwrapped(channels, position, self._home)
            self._bank.start(channels[jumped], reading.stamp_ns, position[jumped], reading.velocity[jumped])
            self.counts['jump'] += 1
            self._notices.append(f'jump of {", ".join(self.names[channel] for channel in channels[jumped])} at '
                                 f'{reading.stamp_ns / _NS_PER_S:.3f} s; estimation goes on from there')

    def _continued_joints(self, reading: Reading) -> np.ndarray:
        """Positions of joints and gripper, shape (n,); endless joints at the turn nearest to the last estimate, or to home."""
        if not self._robot.endless.any():
            return reading.position
        expected = np.where(self._bank.seen[self._arm], self._bank.mean()[0][self._arm], self._home)
        return self._unwrapped(reading.channels, reading.position, expected)

    def _unwrapped(self, channels: np.ndarray, position: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """Positions (n,) of some joints and the gripper, with endless joints at the turn nearest to a reference (J,)."""
        entries = np.zeros(len(self._robot.state_names))
        entries[channels] = position
        entries[self._arm] = self._robot.unwrapped(entries[self._arm], reference)
        return entries[channels]

    def _continued_body(self, reading: Reading) -> np.ndarray:
        """Positions of a body; its angles are the equivalent ones nearest to the last estimate."""
        position, angles = reading.position.copy(), reading.channels[3:]
        if self._bank.seen[angles].all():
            position[3:] = nearest_angles(position[3:], self._bank.mean()[0][angles])
        return position

    def _extrapolate(self, stamp_ns: int, elapsed: np.ndarray) -> tuple[RobotState, tuple[str, ...]]:
        position, velocity = self._bank.mean()
        limit = self._config.hold_after_s
        position = position + velocity * np.minimum(elapsed, limit)
        held = [source for source, channels in self._sources.items() if elapsed[channels].max() > limit]
        for source in held:
            velocity[self._sources[source]] = 0.0
        return RobotState(stamp_ns, self.names, position, velocity), tuple(held)

    def _describe_missing(self, source: str) -> str:
        fingers = self._joint_reader.missing_fingers if self._robot.gripper and source == self._robot.gripper.name else []
        return f'{source} ({", ".join(fingers)})' if fingers else source

    def _describe_silence(self, elapsed: np.ndarray) -> str:
        silent = [self.names[joint] for joint in self._arm if elapsed[joint] > self._config.coast_after_s]
        what = 'the arm' if len(silent) == len(self._arm) else ', '.join(silent)
        return f'no usable measurement of {what} for {elapsed[self._arm].max():.3f} s'


def _entry_noise(robot: RobotProfile, num_bodies: int, config: EstimatorConfig) -> ChannelNoise:
    """Noise of the S entries: the arm's joints, then the gripper, then three coordinates and three angles for each body."""
    kinds: list[NoiseConfig] = [config.joint] * len(robot.joints) + [config.gripper] * (robot.gripper is not None)
    kinds += ([config.body_length] * 3 + [config.body_angle] * 3) * num_bodies
    names = [field.name for field in dataclasses.fields(ChannelNoise)]
    return ChannelNoise(**{name: np.array([getattr(kind, name) for kind in kinds]).T for name in names})
