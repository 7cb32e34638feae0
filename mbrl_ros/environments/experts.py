"""Experts: users' functions of an environment's observation that return one of its actions."""

from typing import Any

import numpy as np

from mbrl_ros.environments.actions import ActionMap
from mbrl_ros.environments.functions import imported
from mbrl_ros.errors import DemonstrationError
from mbrl_ros.modules import first_line
from mbrl_ros.signals import Ended


class Expert:
    """A user's function that acts.

    Args:
        name: The function as `module:function`, also in the working directory.
        actions: Actions of the environment.

    Raises:
        ConfigError: There is no such function.
    """

    def __init__(self, name: str, actions: ActionMap) -> None:
        self._name, self._function, self._actions = name, imported('expert', name), actions

    def __call__(self, obs: Any) -> np.ndarray:
        """The agent's action, shape (A,), for an observation as the environment gives it.

        Raises:
            DemonstrationError: The function raised an exception, or returned something else than an action.
        """
        try:
            returned = self._function(obs)
        except Ended:
            raise
        except (Exception, SystemExit) as error:  # Users' functions may raise anything.
            raise DemonstrationError(f'expert {self._name!r} raised {type(error).__name__}: {first_line(error)}') from None
        action, shape = _numbers(returned), self._actions.space.shape
        if action is None or action.shape != shape:
            kind = f'an array of shape {action.shape}' if action is not None else type(returned).__name__
            raise DemonstrationError(f'expert {self._name!r} returned {kind}, where an action, an array of shape {shape}, fits')
        if found := self._actions.misfit(action[None]):
            raise DemonstrationError(f'expert {self._name!r} returned an action that does not fit: {found.text}')
        return self._actions.to_agent(action[None])[0]


def _numbers(value: Any) -> np.ndarray | None:
    """A value as an array of numbers; None if it is none."""
    try:
        array = np.asarray(value)
    except Exception:  # Users' objects may raise anything.
        return None
    return array if array.dtype.kind in 'biuf' else None
