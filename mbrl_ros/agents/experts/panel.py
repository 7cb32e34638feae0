"""What a person at the keyboard is shown: the keys, and what the arm and the episode are at."""

from rich.columns import Columns
from rich.console import RenderableType
from rich.panel import Panel
from rich.table import Table

from mbrl_ros.agents.experts.pilot import HELP, KeyboardPilot
from mbrl_ros.types import EpisodeReport, Phase

#: For none, one way and the other.
_MARKS = ('·', '▸', '◂')


def draw(pilot: KeyboardPilot, now_s: float, report: EpisodeReport | None, hold: str, task: str) -> RenderableType:
    """The panel.

    Args:
        pilot: Takes the keys.
        now_s: Steady time, of what the keys ask for now.
        report: Newest word of the episode manager, if any.
        hold: Why the controller keeps the arm still; empty while it moves.
        task: What is demonstrated.
    """
    return Panel(Columns([_keys(), _status(pilot, now_s, report, hold)], padding=(0, 4)), title=f'demonstrate: {task}',
                 subtitle='Ctrl-C ends this', expand=False)


def _keys() -> Table:
    table = Table.grid(padding=(0, 2))
    for keys, meaning in HELP:
        table.add_row(f'[bold]{keys}[/]', meaning)
    return table


def _status(pilot: KeyboardPilot, now_s: float, report: EpisodeReport | None, hold: str) -> Table:
    action = pilot.action(now_s)
    table = Table.grid(padding=(0, 2))
    table.add_row('episode', _episode(report))
    table.add_row('to the goal', '-' if report is None else f'{100 * report.distance_m:.1f} cm')
    table.add_row('arm', _arm(report, hold))
    table.add_row('speed', f'{100 * pilot.speed:.0f} %')
    table.add_row('gripper', 'open' if pilot.opening > 0.0 else 'closed')
    table.add_row('motion', '  '.join(f'{name} {_MARKS[int(value > 0.0) - int(value < 0.0)]}'
                                      for name, value in zip(('x', 'y', 'z', 'yaw'), action)))
    return table


def _episode(report: EpisodeReport | None) -> str:
    if report is None:
        return '[yellow]waiting for the episode manager[/]'
    if report.phase is Phase.DEMONSTRATED:
        return f'[green]{report.episode}, step {report.step}: your turn[/]'
    ended = f'; the last one {"succeeded" if report.success else "did not succeed"}' if report.step else ''
    return f'{report.phase.value}{ended}'


def _arm(report: EpisodeReport | None, hold: str) -> str:
    if report is None or report.phase is not Phase.DEMONSTRATED:
        return 'not yours'
    return f'[red]held: {hold}[/]' if hold else 'follows you'
