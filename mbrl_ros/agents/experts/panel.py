"""The panel for a person who demonstrates at the keyboard: the keys, and the state of arm and episode."""

from rich.columns import Columns
from rich.console import RenderableType
from rich.panel import Panel
from rich.table import Table

from mbrl_ros.agents.experts.pilot import HELP, KeyboardPilot
from mbrl_ros.types import EpisodeReport, Phase

#: Marks for no motion, motion one way, and motion the other way.
_MARKS = ('·', '▸', '◂')


def draw(pilot: KeyboardPilot, now_s: float, report: EpisodeReport | None, hold: str, task: str) -> RenderableType:
    """Draw the panel.

    Args:
        pilot: Turns keys into actions.
        now_s: Steady time; the panel shows the action at this time.
        report: Newest report of the episode manager, if any.
        hold: Why the controller holds the arm; empty while it moves.
        task: Name of the task.
    """
    keys, status = Table.grid(padding=(0, 2)), Table.grid(padding=(0, 2))
    for names, meaning in HELP:
        keys.add_row(f'[bold]{names}[/]', meaning)
    status.add_row('episode', _episode(report))
    status.add_row('to the goal', '-' if report is None else f'{100 * report.distance_m:.1f} cm')
    status.add_row('arm', _arm(report, hold))
    status.add_row('speed', f'{100 * pilot.speed:.0f} %')
    status.add_row('gripper', 'open' if pilot.opening > 0.0 else 'closed')
    status.add_row('motion', '  '.join(f'{name} {_MARKS[int(value > 0.0) - int(value < 0.0)]}'
                                       for name, value in zip(('x', 'y', 'z', 'yaw'), pilot.action(now_s))))
    return Panel(Columns([keys, status], padding=(0, 4)), title=f'demonstrate: {task}', subtitle='Ctrl-C ends this', expand=False)


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
