"""Tool twists from keys; a twist fades by itself, because a terminal does not report the release of a key."""

import dataclasses

import numpy as np

from mbrl_ros.config import Config, setting
from mbrl_ros.robots.twist import TWIST_SIZE
from mbrl_ros.spaces.tabletop import GRIP, TWIST_YAW

_OPEN, _CLOSED = 1.0, -1.0
_SPEED_STEP, _SLOWEST = 0.1, 0.1
#: Entry of the action that a key sets, and its sign.
_MOTIONS = {'w': (0, 1.0), 's': (0, -1.0), 'a': (1, 1.0), 'd': (1, -1.0), 'r': (2, 1.0), 'f': (2, -1.0),
            'q': (TWIST_YAW, 1.0), 'e': (TWIST_YAW, -1.0)}
_GRIPS = {'o': _OPEN, 'c': _CLOSED}
_SPEEDS = {'+': _SPEED_STEP, '=': _SPEED_STEP, '-': -_SPEED_STEP}
_STOP = ' '

#: Keys and their meanings, for the panel.
HELP = (
    ('w  s', 'away from the base, towards it'),
    ('a  d', 'left, right'),
    ('r  f', 'up, down'),
    ('q  e', 'turn left, turn right'),
    ('o  c', 'open the gripper, close it'),
    ('+  -', 'faster, slower'),
    ('space', 'stop'),
)


@dataclasses.dataclass(frozen=True)
class PilotConfig(Config):
    """Duration and speed of a key's motion."""

    hold_s: float = setting(0.2, 'Time that a pressed key acts in full; a key that is held down repeats itself.', unit='s',
                            low=0.01, high=2.0)
    fade_s: float = setting(0.1, 'Time after that in which its motion fades to none.', unit='s', low=0.01, high=2.0)
    speed: float = setting(0.3, "Share of the tool's speeds at the start.", low=_SLOWEST, high=1.0)


class KeyboardPilot:
    """Turns keys into actions of `ToolSpace`: a twist and an opening, normalised to [-1, 1].

    Each of the four motions lasts for a moment after its last key, and motions of several keys combine into one twist. The
    opening stays until another key changes it. The pilot starts at rest with an open gripper.

    Attributes:
        speed: Share of the tool's speeds that keys ask for.
        opening: -1 for closed, 1 for open.
    """

    def __init__(self, config: PilotConfig | None = None) -> None:
        self._config = config or PilotConfig()
        self.speed = self._config.speed
        self.reset()

    def reset(self) -> None:
        """Begin an episode at rest with an open gripper; the speed stays."""
        self.opening = _OPEN
        self.stop()

    def stop(self) -> None:
        """Stop moving at once."""
        self._direction = np.zeros(TWIST_SIZE)
        self._pressed_s = np.full(TWIST_SIZE, -np.inf)

    def press(self, key: str, now_s: float) -> bool:
        """Handle a key, upper or lower case, at a steady time; returns whether the key has a meaning."""
        key = key.lower()
        if key in _MOTIONS:
            entry, way = _MOTIONS[key]
            self._direction[entry], self._pressed_s[entry] = way, now_s
        elif key in _GRIPS:
            self.opening = _GRIPS[key]
        elif key in _SPEEDS:
            self.speed = round(min(max(self.speed + _SPEEDS[key], _SLOWEST), 1.0), 6)
        elif key == _STOP:
            self.stop()
        else:
            return False
        return True

    def action(self, now_s: float) -> np.ndarray:
        """Action that the keys ask for at a steady time, shape (5,)."""
        over_s = now_s - self._pressed_s - self._config.hold_s
        left = np.clip(1.0 - over_s / self._config.fade_s, 0.0, 1.0)
        action = np.empty(TWIST_SIZE + 1)
        action[:TWIST_SIZE] = self.speed * self._direction * left
        action[GRIP] = self.opening
        return action
