"""One error tree, so that callers can catch as widely or as narrowly as they need.

    MbrlError
    ├── ConfigError          a parameter, a YAML key or a profile that does not fit
    ├── ShapeError           an array of the wrong shape, dtype or device
    ├── MeasurementError     a sensor message that cannot be used
    ├── GoalError            a goal that is malformed or out of reach
    ├── ModelError           a model that cannot be used
    │   ├── BundleError          damaged, foreign or of an unknown format version
    │   └── ModelMismatchError   sound, but for another agent, robot, task, space or period
    ├── TrainingCancelled    a round that was told to end
    ├── PlanningError        no plan that may be executed exists
    ├── BagError             a recording that cannot be read or written
    ├── LaunchError          a launch file that cannot be run, with file and line
    └── ServiceError         a node's service that is not there, does not answer, or fails

Every message says what was given, where, and what would fit.
"""

#: Exit code of a process that cannot start with what it was given; another start would meet the same.
EXIT_REFUSED = 2


class MbrlError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigError(MbrlError, ValueError):
    """A setting is unknown, of the wrong type, or out of range."""


class ShapeError(MbrlError, ValueError):
    """An array has the wrong shape, dtype or device."""


class MeasurementError(MbrlError, ValueError):
    """A sensor message cannot be used."""


class GoalError(MbrlError, ValueError):
    """A goal is malformed or out of the robot's reach."""


class ModelError(MbrlError):
    """A dynamics model cannot be used."""


class BundleError(ModelError, ValueError):
    """A bundle is damaged, foreign, or of an unknown format version."""


class ModelMismatchError(ModelError, ValueError):
    """A sound model that belongs to another robot, task or state layout."""


class TrainingCancelled(MbrlError):
    """Training was asked to stop; there is no result."""


class PlanningError(MbrlError):
    """There is no plan that may be executed."""


class BagError(MbrlError):
    """A recording cannot be read or written."""


class LaunchError(MbrlError):
    """A launch file cannot be run; the message names file and line."""


class ServiceError(MbrlError):
    """A service of a node is not there, does not answer, or says that it failed."""
