"""A command guard before a simulated driver, in one process and in simulated time: what a live stack does, without ROS."""

import dataclasses

import numpy as np

from mbrl_ros.control.safety.guard import CommandGuard, GuardConfig, GuardOutcome
from mbrl_ros.control.safety.measured import MeasuredJoints
from mbrl_ros.control.safety.reference import braking_window
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.types import AppliedCommand, RobotState
from mbrl_sim.command_interfaces import TrajectoryCommand, TrajectoryPoint
from mbrl_sim.engines import engine_defaults, make_world
from mbrl_sim.faults import JointSample
from mbrl_sim.simulated_driver import DriverConfig, SimulatedDriver

CONTROL_S = 0.05


class GuardedDriver:
    """Runs both in steps of the guard; commands come when a test gives them.

    Attributes:
        outcomes: What the guard decided, tick by tick.
        positions: True joint positions after each physics step, shape (J,) each.
    """

    def __init__(self, robot: RobotProfile, command_type: str, *, simulator: str = 'mujoco', seed: int = 0,
                 guard_hz: float = 120.0, **changes: object) -> None:
        settings = {**engine_defaults(simulator), 'simulator': simulator, **changes}
        self.config = DriverConfig.from_mapping(settings)
        self.driver = SimulatedDriver(make_world(robot, self.config, seed), self.config, seed, command_type)
        self.robot, self._type, self._period_s = robot, command_type, 1.0 / guard_hz
        self.guard = CommandGuard(robot, GuardConfig(), period_s=self._period_s, control_period_s=CONTROL_S,
                                  latency_s=max(self.config.command_latency_s))
        self._measured, self.state = MeasuredJoints(robot), None
        self._steps = round(self.config.world.physics_hz / guard_hz)
        self.outcomes: list[GuardOutcome] = []
        self.positions: list[np.ndarray] = []
        self.step()

    def faults(self, **faults: object) -> None:
        """Other faults from now on."""
        self.driver.set_faults(dataclasses.replace(self.config.faults, **faults))

    def command(self, velocity: np.ndarray) -> None:
        """A command of the controller."""
        now_ns = self.driver.stamp_ns
        self.guard.accept(AppliedCommand(now_ns, self.robot.joints, np.array(velocity, dtype=np.float64)), now_ns)

    def step(self) -> GuardOutcome:
        """One period of the guard."""
        now_ns = self.driver.stamp_ns
        outcome = self.guard.tick(now_ns, self.state)
        self.outcomes.append(outcome)
        if (command := self._message(outcome)) is not None:
            self.driver.command(command)
        for _ in range(self._steps):
            for sample in self.driver.step(self.driver.next_stamp_ns):
                if isinstance(sample, JointSample):
                    self._take(sample)
            self.positions.append(self.driver.world.joint_positions(self.robot.joints))
        return outcome

    def run(self, velocity: np.ndarray | None, seconds: float) -> None:
        """Go on, with a command each control period, or without."""
        ticks = round(CONTROL_S / self._period_s)
        for tick in range(round(seconds / self._period_s)):
            if velocity is not None and tick % ticks == 0:
                self.command(velocity)
            self.step()

    def speeds(self, start_s: float = 0.0) -> np.ndarray:
        """True speeds of the joints, means over 20 ms, from a time on, shape (N, J), rad/s."""
        span = round(0.02 * self.config.world.physics_hz)
        positions = np.array(self.positions[round(start_s * self.config.world.physics_hz)::span])
        return np.diff(positions, axis=0) / 0.02

    def accelerations(self, start_s: float = 0.0) -> np.ndarray:
        """Accelerations between those means, shape (N - 1, J), rad/s²."""
        return np.diff(self.speeds(start_s), axis=0) / 0.02

    def _take(self, sample: JointSample) -> None:
        state = self._measured.state(sample.stamp_ns, sample.names, sample.position, sample.velocity)
        if state is not None and (self.state is None or state.stamp_ns > self.state.stamp_ns):
            self.state: RobotState | None = state

    def _message(self, outcome: GuardOutcome) -> np.ndarray | TrajectoryCommand | None:
        if outcome.velocity is None or outcome.start is None:
            return outcome.velocity if self._type == 'velocity' else None
        if self._type == 'velocity':
            return outcome.velocity
        if self._type == 'position':
            return outcome.start + 0.5 * (outcome.before + outcome.velocity) * self._period_s
        times, positions, velocities = braking_window(
            outcome.start, (outcome.before, outcome.velocity), np.array(self.robot.max_acceleration_rad_s2), self._period_s,
            self.guard.hold_s - self._period_s)
        points = [TrajectoryPoint(time_s, position.tolist(), velocity.tolist())
                  for time_s, position, velocity in zip(times, positions, velocities)]
        return TrajectoryCommand(self.robot.joints, points, self.driver.now_s)
