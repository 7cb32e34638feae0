"""`mbrl-ros doctor` says what there is and what is missing, and ends with 1 only for what is needed."""

import importlib.util

import pytest
from typer.testing import CliRunner

from mbrl_ros.benchmarks import installation
from mbrl_ros.cli.main import app


def said():
    done = CliRunner().invoke(app, ['doctor'], env={'COLUMNS': '200'})
    return done.exit_code, {line[9:].split('  ')[0]: line for line in done.stdout.splitlines()}


@pytest.fixture
def without(monkeypatch):
    """Hides modules, and asks no middleware."""
    def hide(*names):
        there = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, 'find_spec', lambda name, *rest: None if name in names else there(name, *rest))
    return hide


def test_an_extra_that_is_missing_is_named_with_what_it_is_for_and_is_no_error(without):
    without('casadi', 'rclpy')
    code, lines = said()
    assert code == 0 and lines['mbrl_ros'].startswith('ok') and lines['torch'].startswith('ok')
    assert lines['extra solver'].startswith('without')
    assert lines['extra solver'].endswith("not installed: the agent solver_mpc; pip install '.[solver]'")
    assert 'messages' not in lines and lines['extra ros'].startswith('without')


def test_missing_data_files_are_an_error(without, monkeypatch):
    without('rclpy')

    def none():
        raise installation.ConfigError('the data files were not found')

    monkeypatch.setattr(installation, 'share_directory', none)
    code, lines = said()
    assert code == 1 and lines['data'].startswith('missing') and 'were not found' in lines['data']


@pytest.mark.parametrize('middleware', ['', 'rmw_none'])
def test_a_node_hears_itself_or_the_middleware_says_why_not(middleware, monkeypatch):
    pytest.importorskip('rclpy')
    if middleware:
        monkeypatch.setenv('RMW_IMPLEMENTATION', middleware)
    found = installation._messages()
    assert found.is_there == (not middleware) and (middleware in found.text) and found.is_needed
