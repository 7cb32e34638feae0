"""What several commands ask of their options."""

from collections.abc import Mapping

from mbrl_ros.errors import ConfigError


def refuse_options(given: Mapping[str, object], why: str) -> None:
    """Refuse options that mean nothing beside the others.

    Args:
        given: Options by name; those that are not set are None or False.
        why: What they would need.

    Raises:
        ConfigError: One is set.
    """
    if options := [option for option, value in given.items() if value]:
        raise ConfigError(f'{", ".join(options)}: {why}')
