"""The executable `mbrl-ros`: stops and releases arms before it imports anything that the other commands need."""

import sys

from mbrl_ros.cli import stop
from mbrl_ros.errors import ServiceError


def main() -> int:
    """Stop or release at once if a guard of this machine answers; otherwise run the command line."""
    try:
        answers = _at_once(sys.argv[1:])
    except ServiceError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    if answers:
        print(answers)
        return 0
    from mbrl_ros.cli import main as commands  # Takes half a second.

    return commands.main()


def _at_once(words: list[str]) -> str:
    match words:
        case [('stop' | 'release') as word]:
            return stop.ask_guards(word, '/')
        case [('stop' | 'release') as word, '--namespace', namespace]:
            return stop.ask_guards(word, namespace)
    return ''


if __name__ == '__main__':
    sys.exit(main())
