"""Faults: noise, loss, unusual forms of messages that real drivers send, reads that stall, and an arm that does not obey.

The module is pure and seeded. All faults are off by default.
"""

import dataclasses

import numpy as np

from mbrl_ros.config import Config, setting


@dataclasses.dataclass(frozen=True)
class FaultConfig(Config):
    """Faults of the measurements, of the commands and of the arm."""

    position_noise_std: float = setting(0.0, 'Standard deviation of joint positions.', unit='rad or m', low=0.0, high=1.0,
                                        live=True)
    velocity_noise_std: float = setting(0.0, 'Standard deviation of joint velocities.', unit='rad/s or m/s', low=0.0,
                                        high=10.0, live=True)
    pose_noise_std_m: float = setting(0.0, "Standard deviation of the object's position.", unit='m', low=0.0, high=1.0, live=True)
    pose_noise_std_rad: float = setting(0.0, "Standard deviation of the object's rotation, each axis.", unit='rad', low=0.0,
                                        high=1.0, live=True)
    latency_s: float = setting(0.0, 'Time from measuring to publishing; stamps tell when it was measured.', unit='s',
                               low=0.0, high=1.0, live=True)
    drop_probability: float = setting(0.0, 'Chance of each message to be lost.', low=0.0, high=1.0, live=True)
    shuffle_joints: bool = setting(False, 'Another joint order in every message.', live=True)
    separate_gripper: bool = setting(False, 'Arm and gripper in separate messages.', live=True)
    velocities: str = setting('sent', 'Velocities of joint states: sent, empty array, or NaN.',
                              choices=('sent', 'missing', 'nan'), live=True)
    frozen_positions: bool = setting(False, 'Reads of the hardware stall: positions and velocities stay what they were, under '
                                            'fresh stamps.', live=True)
    command_drop_probability: float = setting(0.0, 'Chance of each command of the arm to be lost.', low=0.0, high=1.0, live=True)
    protective_stop: bool = setting(False, 'The arm brakes, stands and ignores commands, until this is cleared.', live=True)
    stuck_joint: str = setting('', 'Joint of the arm that does not move, as at a mechanical stop; empty for none.', live=True)


@dataclasses.dataclass(frozen=True)
class JointSample:
    """One joint state message; its arrays have one entry for each name, but `velocity` may be empty."""

    stamp_ns: int
    names: tuple[str, ...]
    position: np.ndarray
    velocity: np.ndarray


@dataclasses.dataclass(frozen=True)
class PoseSample:
    """One object pose message: position (3,), m, and quaternion (4,), x y z w."""

    stamp_ns: int
    position: np.ndarray
    quaternion: np.ndarray


class MeasurementFaults:
    """Turns exact measurements into faulty ones.

    Args:
        config: Faults and their strengths.
        separable: Joints that `separate_gripper` puts into a message of their own.
        seed: Seed of all faults.
    """

    def __init__(self, config: FaultConfig, separable: tuple[str, ...] = (), seed: int = 0) -> None:
        self.config = config
        self._separable = separable
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Seed the generator again."""
        self._rng = np.random.default_rng(seed)
        self._reading: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def stalled(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Positions and velocities of the last read, in the order of the measurement, while reads stall; else None."""
        return self._reading if self.config.frozen_positions else None

    def joints(self, sample: JointSample) -> list[JointSample]:
        """Messages, none to two, from one joint measurement."""
        position, velocity = self._reading = self.stalled or self._read(sample)
        if self.config.velocities == 'nan':
            velocity = np.full_like(velocity, np.nan)
        messages = [self._pick(sample.stamp_ns, sample.names, position, velocity, group) for group in self._groups(sample)]
        return [message for message in messages if not self._lost()]

    def pose(self, sample: PoseSample) -> list[PoseSample]:
        """Messages, none or one, from one pose measurement."""
        config, rng = self.config, self._rng
        position, quaternion = sample.position, sample.quaternion
        if config.pose_noise_std_m:
            position = position + rng.normal(0.0, config.pose_noise_std_m, 3)
        if config.pose_noise_std_rad:
            quaternion = _turned(quaternion, rng.normal(0.0, config.pose_noise_std_rad, 3))
        return [] if self._lost() else [PoseSample(sample.stamp_ns, position, quaternion)]

    def _read(self, sample: JointSample) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities with noise."""
        config, rng = self.config, self._rng
        position, velocity = sample.position, sample.velocity
        if config.position_noise_std:
            position = position + rng.normal(0.0, config.position_noise_std, position.shape)
        if config.velocity_noise_std:
            velocity = velocity + rng.normal(0.0, config.velocity_noise_std, velocity.shape)
        return position, velocity

    def _groups(self, sample: JointSample) -> list[list[int]]:
        everything = list(range(len(sample.names)))
        if not (self.config.separate_gripper and self._separable):
            return [everything]
        apart = [index for index in everything if sample.names[index] in self._separable]
        return [[index for index in everything if index not in apart], apart]

    def _pick(self, stamp_ns: int, names: tuple[str, ...], position: np.ndarray, velocity: np.ndarray,
              group: list[int]) -> JointSample:
        order = list(self._rng.permutation(group)) if self.config.shuffle_joints else group
        kept = np.zeros(0) if self.config.velocities == 'missing' else velocity[order]
        return JointSample(stamp_ns, tuple(names[index] for index in order), position[order], kept)

    def _lost(self) -> bool:
        return bool(self.config.drop_probability) and self._rng.random() < self.config.drop_probability


def _turned(quaternion: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Quaternion, x y z w, turned by a rotation vector in the base frame."""
    angle = float(np.linalg.norm(rotation))
    x1, y1, z1 = np.sin(angle / 2) * rotation / angle if angle else np.zeros(3)
    w1 = np.cos(angle / 2)
    x2, y2, z2, w2 = quaternion
    return np.array([w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
                     w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
                     w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
                     w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2])
