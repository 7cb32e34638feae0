"""Checks of options that several commands share."""

from collections.abc import Mapping

from mbrl_ros.errors import ConfigError


def refuse_options(given: Mapping[str, object], why: str) -> None:
    """Refuse options that have no meaning with the others.

    Args:
        given: Options by name; None or False if not set.
        why: The reason, for the error.

    Raises:
        ConfigError: At least one option is set.
    """
    if options := [option for option, value in given.items() if value]:
        raise ConfigError(f'{", ".join(options)}: {why}')
