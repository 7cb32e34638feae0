"""The pages say what the code says. Run as a program, this file rewrites their generated tables."""

import dataclasses
import functools
import re
from pathlib import Path

import pytest

from mbrl_ros.cli.reference import agent_reference, hold_reference, parameter_reference
from mbrl_ros.resources import share_directory
from mbrl_ros.ros import topics
from mbrl_ros.types import EpisodeReport, TrainingReport

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / 'docs'
GENERATED = {
    'parameters.md': ('mbrl-ros reference parameters', parameter_reference),
    'safety.md': ('mbrl-ros reference holds', hold_reference),
    'tabular.md': ('mbrl-ros reference agent dyna_q_plus', functools.partial(agent_reference, 'dyna_q_plus')),
}
PAGES = sorted([*DOCS.glob('*.md'), *ROOT.glob('*.md')])


def with_table(page: str, text: str) -> str:
    """The page's text with its generated part made anew."""
    command, make = GENERATED[page]
    begin, end = f'<!-- begin: {command} -->\n', '<!-- end -->'
    head, _, rest = text.partition(begin)
    _, mark, tail = rest.partition(end)
    assert mark, f'{page} has no place for `{command}`'
    return f'{head}{begin}\n{make()}\n\n{end}{tail}'


@pytest.mark.parametrize('page', GENERATED)
def test_generated_tables_are_up_to_date(page):
    if page == 'parameters.md':
        pytest.importorskip('rclpy', reason='the settings of the nodes stand in their modules')
    text = (DOCS / page).read_text(encoding='utf-8')
    assert text == with_table(page, text), 'run `python test/unit/test_docs.py` and commit what it changes'


def test_every_topic_of_the_stack_is_listed_and_no_other():
    text = (DOCS / 'topics.md').read_text(encoding='utf-8')
    listed = set(re.findall(r'^\| `(\S+)` \| `\w+_msgs/', text.partition('## Within the stack')[2], re.MULTILINE))
    known = {value for name, value in vars(topics).items() if name.isupper()}
    assert listed == known - {topics.ROBOT_DESCRIPTION}
    assert f'| `{topics.ROBOT_DESCRIPTION}` |' in text


@pytest.mark.parametrize('kind', [EpisodeReport, TrainingReport])
def test_every_field_of_a_report_is_listed(kind):
    text = (DOCS / 'topics.md').read_text(encoding='utf-8')
    section = re.search(rf'one status named `{kind.__name__}`\n(.*?)\n#', text, re.DOTALL).group(1)
    keys = ' '.join(re.findall(r'^\| (`.*?`) \|', section, re.MULTILINE))
    listed = set(re.findall(r'`(\w+)`', keys))
    assert listed == {field.name for field in dataclasses.fields(kind)} - {'stamp_ns'}


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.name)
def test_links_and_named_files_exist(page):
    text = page.read_text(encoding='utf-8')
    links = {link for link in re.findall(r'\]\(([^)#\s]+)\)', text) if '://' not in link}
    named = set(re.findall(r'`((?:mbrl_ros|sim|test|launch|config|requirements|docs)/[\w/.]+)`', text))
    missing = {link for link in links if not (page.parent / link).exists()}
    missing |= {name for name in named if not (ROOT / name).exists()}
    assert not missing


def test_every_driver_is_described():
    text = (DOCS / 'your-robot.md').read_text(encoding='utf-8')
    described = set(re.findall(r'^\| `(\w+)` \|', text, re.MULTILINE))
    assert described == {path.stem for path in (share_directory() / 'config' / 'drivers').glob('*.yaml')}


def test_the_planner_example_runs():
    text = (DOCS / 'change.md').read_text(encoding='utf-8')
    (code,) = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    names = {}
    exec(code, names)
    assert names['plan'].actions.shape == (7, names['task'].action_size)


if __name__ == '__main__':
    for page in GENERATED:
        path = DOCS / page
        path.write_text(with_table(page, path.read_text(encoding='utf-8')), encoding='utf-8')
