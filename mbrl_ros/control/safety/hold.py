"""How the arm is brought to a stop and kept there.

In a hold the arm brakes within its acceleration limits, is told zero for a while in case a message is lost, and is then left
alone, so that another commander can take over.
"""

import threading
from pathlib import Path

import numpy as np

from mbrl_ros.control.safety.command_filter import CommandFilter


class EmergencyStop:
    """Latched stop: any thread may press it, in any state, and only `release` lifts it.

    Args:
        latch_path: File that exists while the stop is pressed, so that the latch outlives a crash; None for no file.
    """

    def __init__(self, latch_path: Path | None = None) -> None:
        self._pressed, self._writing = threading.Event(), threading.Lock()
        self._latch_path = latch_path
        if latch_path is not None and latch_path.exists():
            self._pressed.set()

    @property
    def is_pressed(self) -> bool:
        """Whether the stop is latched."""
        return self._pressed.is_set()

    def press(self) -> None:
        """Latch the stop.

        Raises:
            OSError: The file cannot be written. The stop is latched all the same, but a crash would lift it.
        """
        self._pressed.set()  # At once, whatever the file system does.
        with self._writing:
            self._pressed.set()  # A release may just have ended.
            if self._latch_path is not None:
                self._latch_path.parent.mkdir(parents=True, exist_ok=True)
                self._latch_path.touch()

    def release(self) -> None:
        """Let the arm move again.

        Raises:
            OSError: The file cannot be removed; the stop stays latched.
        """
        with self._writing:
            # Where the file could not be written, a file system that is read only would refuse to remove it, too.
            if self._latch_path is not None and self._latch_path.exists():
                self._latch_path.unlink()
            self._pressed.clear()


class StopSequence:
    """The controlled stop: braking, a few zeros, then silence; silent until the first `restart`.

    Args:
        num_zeros: Zero commands sent once the arm has braked.
    """

    def __init__(self, num_zeros: int = 5) -> None:
        self._num_zeros = num_zeros
        self._zeros_sent = num_zeros

    def restart(self) -> None:
        """Begin the next stop from its start; call it whenever the arm is told to move."""
        self._zeros_sent = 0

    def step(self, command_filter: CommandFilter, dt: float) -> np.ndarray | None:
        """Next command of the stop, shape (J,), rad/s; None for silence."""
        if self._zeros_sent >= self._num_zeros:
            return None
        velocity = command_filter.brake(dt)
        if not velocity.any():
            self._zeros_sent += 1
        return velocity
