"""Files that a command is to leave behind: those that cannot be had are refused before any work, and trying leaves nothing."""

import importlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mbrl_ros.cli.main import app
from mbrl_ros.errors import ConfigError
from mbrl_ros.runs.outputs import require_writable


@pytest.fixture
def bench(monkeypatch):
    """Imports a script of `bench`; they lie in no package."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2] / 'bench')
    return importlib.import_module


def test_what_can_be_written_is_left_as_it_was(tmp_path):
    old = tmp_path / 'old.json'
    old.write_text('old')
    require_writable(old, None, tmp_path / 'new.json', tmp_path / 'a' / 'b' / 'new.json')
    assert list(tmp_path.iterdir()) == [old] and old.read_text() == 'old'


def test_what_cannot_be_written_leaves_no_folders(tmp_path):
    with pytest.raises(ConfigError, match=r'json: cannot be written \(File name too long\)'):
        require_writable(tmp_path / 'a' / 'b' / f'{300 * "c"}.json')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('words', ['bench planner --json', 'bench planner --curves', 'bench budget --json', 'bench budget --plot',
                                   'bench loop --json', 'compare --out'])
def test_commands_refuse_before_any_work(words):
    result = CliRunner().invoke(app, [*words.split(), '/proc/new/file'])
    assert isinstance(result.exception, ConfigError) and result.output == ''
    assert str(result.exception).startswith('/proc/new/file') and 'cannot be written (No such file' in str(result.exception)


def test_ablations_are_not_begun_where_their_figures_cannot_be_kept(bench):
    with pytest.raises(ConfigError, match='/proc/new/file: cannot be written'):
        bench('ablations').main(json_path=Path('/proc/new/file'))
