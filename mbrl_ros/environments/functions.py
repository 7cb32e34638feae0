"""Users' functions: found by `module:function`, also in the working directory, and tried before they are used."""

import importlib
from collections.abc import Callable
from typing import Any

import torch

from mbrl_ros.errors import ConfigError
from mbrl_ros.modules import first_line, working_directory_modules

Features = Callable[[torch.Tensor], torch.Tensor]


def imported(what: str, name: str) -> Callable[..., Any]:
    """Import what `name`, a `module:function`, names; `what` it is to be stands in errors.

    Raises:
        ConfigError: There is no such function.
    """
    module, _, attribute = name.partition(':')
    if not module or not attribute:
        raise ConfigError(f'a {what} needs the form module:function, got {name!r}')
    try:
        with working_directory_modules():
            function = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # Users' modules may raise anything.
        raise ConfigError(f'{what} {name!r} cannot be had ({type(error).__name__}: {first_line(error)})') from None
    if not callable(function):
        raise ConfigError(f'{what} {name!r} needs to be a function, got {type(function).__name__}')
    return function


def tried(what: str, call: Callable[[], Any], shape: tuple[int, ...], arguments: str) -> torch.Tensor:
    """Result of a user's function, which has to be a float tensor of a shape; -1 in it stands for any size of at least 1.

    Raises:
        ConfigError: The function raised an exception, or returned something else.
    """
    try:
        result = call()
    except Exception as error:  # Users' functions may raise anything.
        raise ConfigError(f'{what} fails on {arguments}: {type(error).__name__}: {first_line(error)}') from None
    wanted = str(shape).replace('-1', 'F')
    if not isinstance(result, torch.Tensor) or not result.is_floating_point() or not _fits(result.shape, shape):
        kind = f'{result.dtype} of shape {tuple(result.shape)}' if isinstance(result, torch.Tensor) else type(result).__name__
        raise ConfigError(f'{what} needs to return a float tensor of shape {wanted} for {arguments}, got {kind}')
    return result


def load_features(name: str, obs: torch.Tensor) -> Features:
    """Import the features that `name`, a `module:function`, names, and try it on a real observation, shape (O,).

    A function of features takes the environment's own observations, shape (..., O), and returns features, shape (..., F).

    Raises:
        ConfigError: There is no such function, it returns something else or another F for another number of observations, or
            features that are not finite.
    """
    function, size = imported('features function', name), 0
    for leading in ((2,), (5,), (3, 1, 2)):
        features = tried(f'features function {name!r}', lambda leading=leading: function(obs.expand(*leading, -1)),
                         (*leading, -1), f'observations {(*leading, len(obs))}')
        if size not in (0, features.shape[-1]):
            raise ConfigError(f'features function {name!r} gave {size} features, then {features.shape[-1]} for observations '
                              f'{(*leading, len(obs))}, where their number must not change')
        if not torch.isfinite(features).all():
            raise ConfigError(f'features function {name!r} gave features that are not finite for an observation that is')
        size = features.shape[-1]
    return function


def _fits(shape: torch.Size, wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(size == want or (want == -1 and size > 0) for size, want in zip(shape, wanted))
