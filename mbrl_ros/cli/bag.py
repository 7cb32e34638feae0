"""`mbrl-ros bag`: show a recording, or close a recording that its writer left unclosed."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from mbrl_ros.experience.bags.reader import BagReader
from mbrl_ros.experience.bags.recovery import recover

app = typer.Typer(help='Look into recordings, and recover unclosed ones.', no_args_is_help=True)
BagPath = Annotated[Path, typer.Argument(help='Bag directory or .mcap file.')]


@app.command()
def info(path: BagPath) -> None:
    """Show topics, counts and times; works on bags that are unclosed or being written."""
    reader = BagReader(path)
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    start_ns = end_ns = None
    for message in reader.messages():
        counts[message.topic.name] += 1
        sizes[message.topic.name] += len(message.data)
        start_ns = message.log_time_ns if start_ns is None else min(start_ns, message.log_time_ns)
        end_ns = message.log_time_ns if end_ns is None else max(end_ns, message.log_time_ns)
    duration_s = ((end_ns or 0) - (start_ns or 0)) * 1e-9
    table = Table('topic', 'type', 'messages', 'rate [Hz]', 'bytes')
    for name, topic in sorted(reader.topics.items()):
        rate = f'{counts[name] / duration_s:.1f}' if duration_s else ''
        table.add_row(name, topic.type, str(counts[name]), rate, str(sizes[name]))
    console = Console()
    console.print(f'{path}: {len(reader.files)} files, {sum(counts.values())} messages, {duration_s:.2f} s',
                  highlight=False, soft_wrap=True)
    console.print(table)
    for text in reader.truncations:
        console.print(f'unclosed: {text}', highlight=False, soft_wrap=True)


@app.command('recover')
def recover_command(path: BagPath) -> None:
    """Close an unclosed bag without losing a whole message, and write its metadata.yaml."""
    recovered = recover(path)
    for file in recovered:
        typer.echo(f'{file.path}: recovered {file.num_messages} messages ({file.tail})')
    if not recovered:
        typer.echo(f'{path}: is closed; nothing to recover')
