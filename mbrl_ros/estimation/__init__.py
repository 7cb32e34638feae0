"""From raw joint states and object poses to one filtered, stamped state.

`measurements` checks messages, `kalman` filters them, `jumps` tells a world that was reset from a bad reading, `grid` says which
states are due in lockstep, and `estimator` joins these parts.
"""

from mbrl_ros.estimation.config import EstimatorConfig
from mbrl_ros.estimation.estimator import Estimate, StateEstimator, Status
from mbrl_ros.estimation.grid import LockstepSchedule, StampGrid
from mbrl_ros.estimation.measurements import BodyMeasurement, JointMeasurement, RefusalError

__all__ = ['BodyMeasurement', 'Estimate', 'EstimatorConfig', 'JointMeasurement', 'LockstepSchedule', 'RefusalError',
           'StampGrid', 'StateEstimator', 'Status']
