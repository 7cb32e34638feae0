"""`mbrl-ros doctor`: what this installation can do, and what is missing."""

import typer


def doctor() -> None:
    """Look at packages, compiled code, ROS 2 messages and priorities, and say what is missing; ends with 1 if it is needed."""
    from rich.console import Console

    from mbrl_ros.benchmarks.installation import findings

    console, is_fine = Console(), True
    for finding in findings():
        is_fine = is_fine and (finding.is_there or not finding.is_needed)
        mark = '[green]ok[/]     ' if finding.is_there else '[red]missing[/]' if finding.is_needed else '[yellow]without[/]'
        console.print(f'{mark}  {finding.name:<18}  ', end='', highlight=False)
        console.print(finding.text, highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(not is_fine)
