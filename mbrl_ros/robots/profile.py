"""Robot and driver profiles, one YAML file each, so that a new arm or driver needs no Python."""

import dataclasses

import numpy as np

from mbrl_ros.config import Config, load_yaml, section, setting
from mbrl_ros.errors import ConfigError
from mbrl_ros.resources import config_file, resolve_url
from mbrl_ros.robots.turns import nearest_turn
from mbrl_ros.robots.urdf import read_chain


@dataclasses.dataclass(frozen=True)
class WorkspaceProfile(Config):
    """Where the tool may be and goals are: a box without the parts that are too near to or too far from the shoulder."""

    lower_m: tuple[float, ...] = setting((0.25, -0.5, 0.03), 'Lower corner of the box in the base frame.', unit='m')
    upper_m: tuple[float, ...] = setting((0.75, 0.5, 0.9), 'Upper corner of the box in the base frame.', unit='m')
    shoulder_m: tuple[float, ...] = setting((0.0, 0.0, 0.333), 'Centre of the reachable shell, base frame.', unit='m')
    min_reach_m: float = setting(0.3, 'Inner radius of the reachable shell.', unit='m', low=0.0)
    max_reach_m: float = setting(0.75, 'Outer radius of the reachable shell.', unit='m', low=0.01)
    lowest_link_m: float = setting(0.02, 'No moving link origin may come below this height in the base frame.', unit='m')
    lowest_tool_m: float = setting(0.02, 'No tool may come below this height, which is lower where it has to grasp.', unit='m')

    def check(self) -> None:
        """Raise ConfigError when bounds contradict each other, or when the arm cannot reach into the box."""
        for name in ('lower_m', 'upper_m', 'shoulder_m'):
            if len(getattr(self, name)) != 3:
                raise ConfigError(f'WorkspaceProfile.{name} needs three numbers, got {getattr(self, name)!r}')
        if any(low >= high for low, high in zip(self.lower_m, self.upper_m)):
            raise ConfigError(f'WorkspaceProfile.lower_m {self.lower_m} needs to be below upper_m {self.upper_m}')
        if self.min_reach_m >= self.max_reach_m:
            raise ConfigError(f'WorkspaceProfile.min_reach_m {self.min_reach_m} needs to be below max_reach_m {self.max_reach_m}')
        lower, upper, shoulder = map(np.array, (self.lower_m, self.upper_m, self.shoulder_m))
        nearest = np.linalg.norm(np.clip(shoulder, lower, upper) - shoulder)
        farthest = np.linalg.norm(np.maximum(np.abs(lower - shoulder), np.abs(upper - shoulder)))
        if nearest >= self.max_reach_m or farthest <= self.min_reach_m:
            raise ConfigError(f'WorkspaceProfile needs a box that the arm reaches into: it is {nearest:.3f} to {farthest:.3f} m '
                              f'from the shoulder, the arm reaches {self.min_reach_m} to {self.max_reach_m} m')

    def refusal(self, point_m: np.ndarray) -> str:
        """Why a point, shape (3,), is no goal; empty if it is one."""
        point = np.asarray(point_m, dtype=np.float64)
        if point.shape != (3,) or not np.isfinite(point).all():
            return f'a goal needs three finite coordinates, got {point_m}'
        where = f'({", ".join(f"{value:.3f}" for value in point)}) m'
        if (point < self.lower_m).any() or (point > self.upper_m).any():
            return f'goal {where} lies outside the workspace box {self.lower_m} to {self.upper_m} m'
        reach = float(np.linalg.norm(point - self.shoulder_m))
        if not self.min_reach_m <= reach <= self.max_reach_m:
            return (f'goal {where} is {reach:.3f} m from the shoulder; '
                    f'the arm reaches {self.min_reach_m} to {self.max_reach_m} m')
        return ''

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a goal uniformly from the workspace, shape (3,)."""
        while True:
            point = rng.uniform(self.lower_m, self.upper_m)
            if not self.refusal(point):
                return point


@dataclasses.dataclass(frozen=True)
class GripperProfile(Config):
    """A parallel gripper; its state and command are the width of its opening."""

    joints: tuple[str, ...] = setting((), 'Finger joints; the opening is the sum of their positions.')
    name: str = setting('gripper', 'Name of the opening as an entry of the state.')
    closed_m: float = setting(0.0, 'Opening when closed.', unit='m', low=0.0)
    open_m: float = setting(0.08, 'Opening when open.', unit='m', low=0.0)
    max_velocity_m_s: float = setting(0.1, 'Largest speed of the opening.', unit='m/s', low=0.0)


@dataclasses.dataclass(frozen=True)
class RobotProfile(Config):
    """One arm: names, limits, home, links, gripper and URDF.

    A joint whose position limits are infinite turns without end. Its measured angle is known up to whole turns only.
    """

    name: str = setting(doc='Name of the robot.')
    urdf: str = setting(doc='URDF, as package://<package>/<path> or relative to the YAML file.')
    base_link: str = setting(doc='Root of the chain, frame of goals and object poses.')
    tool_link: str = setting(doc='End of the chain, the point that reaches.')
    joints: tuple[str, ...] = setting(doc='The J arm joints from base to tool.')
    position_lower_rad: tuple[float, ...] = setting(doc='Lower position limits; -inf for a joint that turns without end.',
                                                    unit='rad', finite=False)
    position_upper_rad: tuple[float, ...] = setting(doc='Upper position limits; inf likewise.', unit='rad', finite=False)
    max_velocity_rad_s: tuple[float, ...] = setting(doc='Velocity limits, also the scale of normalised actions.', low=1e-6)
    max_acceleration_rad_s2: tuple[float, ...] = setting(doc='Acceleration limits.', unit='rad/s²', low=1e-6)
    max_jerk_rad_s3: tuple[float, ...] = setting((), 'Jerk limits; empty for none.', unit='rad/s³', low=1e-6)
    home_rad: tuple[float, ...] = setting(doc='Joint positions to start from and return to.', unit='rad')
    gripper: GripperProfile | None = setting(None, 'Gripper, if any.')
    capsules: tuple[float, ...] = setting((), 'Capsules around the links, 8 numbers each: the joint that moves the link, counted '
                                              "from 1 at the base, then two ends in the link's frame and the radius, m.")
    workspace: WorkspaceProfile = section(WorkspaceProfile, 'Where the tool may be.')
    urdf_path: str = setting('', 'Resolved file of the URDF; filled in on loading.')

    def check(self) -> None:
        """Raise ConfigError when a list has another length than it needs, or a home position lies outside the limits."""
        names = ['position_lower_rad', 'position_upper_rad', 'max_velocity_rad_s', 'max_acceleration_rad_s2', 'home_rad']
        for name in names + ['max_jerk_rad_s3'] * bool(self.max_jerk_rad_s3):
            if len(getattr(self, name)) != len(self.joints):
                raise ConfigError(f'RobotProfile.{name} needs one number for each of the {len(self.joints)} joints, '
                                  f'got {len(getattr(self, name))}')
        if len(self.capsules) % 8 or any(joint not in range(1, len(self.joints) + 1) for joint in self.capsules[::8]):
            raise ConfigError('RobotProfile.capsules needs 8 numbers each, the first of them a joint from 1 to '
                              f'{len(self.joints)}, got {self.capsules}')
        for joint, low, home, high in zip(self.joints, self.position_lower_rad, self.home_rad, self.position_upper_rad):
            if not low < home < high:
                raise ConfigError(f'RobotProfile.home_rad of {joint} needs to lie between {low} and {high}, got {home}')

    @property
    def state_names(self) -> tuple[str, ...]:
        """The robot's entries of the state: the arm joints, then the gripper's opening."""
        return self.joints + ((self.gripper.name,) if self.gripper else ())

    @property
    def endless(self) -> np.ndarray:
        """Which joints turn without end, shape (J,), bool."""
        return np.isinf(self.position_lower_rad) & np.isinf(self.position_upper_rad)

    def unwrapped(self, q: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """Joint positions with endless joints at the turn nearest to a reference; all of shape (J,), rad."""
        return np.where(self.endless, nearest_turn(q, reference), q)

    def way_home(self, q: np.ndarray) -> np.ndarray:
        """What home differs by from joint positions (J,), rad, shape (J,); endless joints take the shorter way."""
        return self.unwrapped(np.array(self.home_rad), q) - q


@dataclasses.dataclass(frozen=True)
class DriverProfile(Config):
    """Topics and command interface of an arm's driver. The simulator is one driver among others."""

    name: str = setting(doc='Name of the driver.')
    joint_state_topics: tuple[str, ...] = setting(('joint_states',), 'Topics that carry joint states; merged by joint name.')
    object_pose_topic: str = setting('object_pose', 'Pose of the tracked object, base frame; empty when nothing is tracked.')
    object_name: str = setting('object', 'Name of the tracked body in the state.')
    command_type: str = setting('velocity', 'Command interface of the arm.', choices=('velocity', 'position', 'trajectory'))
    command_topic: str = setting('forward_velocity_controller/commands', 'Topic of the arm commands.')
    gripper_topic: str = setting('gripper_controller/commands', 'Opening in metres (Float64MultiArray); empty: no gripper.')
    command_joints: tuple[str, ...] = setting((), 'Joint order of the command; empty: the order of the robot profile.')
    command_latency_s: float = setting(0.0, 'Time from sending a command to the arm obeying it.', unit='s', low=0.0, high=0.5)
    command_timeout_s: float = setting(0.0, 'Silence after which the driver stops the arm by itself; 0 where it never does.',
                                       unit='s', low=0.0, high=5.0)
    reset_service: str = setting('', 'Service (std_srvs/Trigger) that puts the world back; empty when there is none.')

    @property
    def controller(self) -> str:
        """Controller that the arm's commands go to, by ros2_control's names of topics; empty for another kind of name."""
        return self.command_topic.rpartition('/')[0]

    def joint_order(self, robot: RobotProfile) -> tuple[str, ...]:
        """Joints in the order of commands.

        Raises:
            ConfigError: `command_joints` are not the robot's joints.
        """
        joints = self.command_joints or robot.joints
        if sorted(joints) != sorted(robot.joints):
            raise ConfigError(f'driver {self.name!r}: command_joints needs the joints {", ".join(robot.joints)}, '
                              f'got {", ".join(joints)}')
        return joints


def load_robot(name: str) -> RobotProfile:
    """Read `config/robots/<name>.yaml`, or the YAML file at the path `name`.

    Raises:
        ConfigError: There is no such file, a key or value does not fit, the URDF does not exist or has other joints from base to
            tool, or a limit is beyond that of the URDF or not plausible in radians.
    """
    path = config_file('robots', name)
    profile = RobotProfile.from_mapping(load_yaml(path), str(path))
    profile = dataclasses.replace(profile, urdf_path=str(resolve_url(profile.urdf, path)))
    chain = {joint.name: joint for joint in read_chain(profile.urdf_path, profile.base_link, profile.tool_link, profile.joints)}
    limits = zip(profile.joints, profile.position_lower_rad, profile.position_upper_rad, profile.max_velocity_rad_s)
    if misfits := [misfit for joint, *values in limits for misfit in chain[joint].misfits(*values)]:
        raise ConfigError(f'{path}: {"; ".join(misfits)} (URDF: {profile.urdf_path})')
    return profile


def load_driver(name: str) -> DriverProfile:
    """Read `config/drivers/<name>.yaml`, or the YAML file at the path `name`; raises like `load_robot`."""
    path = config_file('drivers', name)
    return DriverProfile.from_mapping(load_yaml(path), str(path))
