"""One error tree, so that callers can catch as widely or as narrowly as they need.

Every message says what was given, where, and what would fit.
"""

#: Exit code of a process that cannot start with its settings; starting it again would fail the same way.
EXIT_REFUSED = 2
#: Longest text that is shown of what somebody else has sent, in characters.
LONGEST_TEXT = 500


def shortened(text: str) -> str:
    """A text that quotes a message, at most `LONGEST_TEXT` characters and a note of how many were left out."""
    left_out = len(text) - LONGEST_TEXT
    return text if left_out <= 0 else f'{text[:LONGEST_TEXT]}… ({left_out} more characters)'


class MbrlError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigError(MbrlError, ValueError):
    """A parameter, a YAML key or a profile is unknown, of the wrong type, or out of range."""


class ShapeError(MbrlError, ValueError):
    """An array has the wrong shape, dtype or device."""


class ReceivedError(MbrlError, ValueError):
    """Something that was sent to this process cannot be used. The text may quote it, so that it is shortened."""

    def __init__(self, text: str = '') -> None:
        super().__init__(shortened(text))


class MeasurementError(ReceivedError):
    """A sensor message cannot be used."""


class GoalError(ReceivedError):
    """A goal is malformed or out of the robot's reach."""


class PhaseError(MbrlError):
    """A call does not fit the phase of the episodes."""


class ModelError(MbrlError):
    """A model cannot be used."""


class BundleError(ReceivedError, ModelError):
    """A bundle is damaged, foreign, or of an unknown format version."""


class ModelMismatchError(ReceivedError, ModelError):
    """A sound bundle is for another agent, robot, task, space or control period."""


class TrainingCancelled(MbrlError):
    """A training round was told to end; it has no result."""


class PlanningError(MbrlError):
    """There is no plan that may be executed."""


class BagError(MbrlError):
    """A recording cannot be read or written."""


class DemonstrationError(MbrlError):
    """Demonstrations cannot be used: a recording is damaged or of another environment, or who demonstrates fails."""


class LaunchError(MbrlError):
    """A launch file cannot be run; the message names file and line."""


class ServiceError(MbrlError):
    """A node's service does not exist, does not answer, or reports failure."""
