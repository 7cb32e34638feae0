"""Figures of long runs, kept as they come."""

import functools
import importlib
import json
import time
from pathlib import Path

import pytest

SETTING = {'steps': 3}


@pytest.fixture
def begin(monkeypatch, tmp_path):
    """A file of runs, in a folder that is not there yet."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2] / 'bench')
    return functools.partial(importlib.import_module('run_file').RunFile, tmp_path / 'results' / 'runs.json', jobs=2)


def test_only_what_is_missing_is_run(begin, tmp_path):
    figures = begin(SETTING, peer='1.0')
    assert list(figures.complete([{'seed': 0}], functools.partial(dict, score=1))) == [{'seed': 0, 'score': 1}]
    again = begin(SETTING, peer='2.0')
    assert list(again.complete([{'seed': 0}, {'seed': 1}], functools.partial(dict, score=2))) == [{'seed': 1, 'score': 2}]
    written = json.loads((tmp_path / 'results' / 'runs.json').read_text())
    assert (written['runs'], written['peer']) == ([{'seed': 0, 'score': 1}, {'seed': 1, 'score': 2}], '1.0')


def test_runs_of_another_setting_are_not_taken_over(begin):
    list(begin(SETTING).complete([{'seed': 0}], dict))
    assert begin({'steps': 4}).result['runs'] == []
    assert begin(SETTING).result['runs'] == [{'seed': 0}]


def test_the_error_of_a_run_is_told(begin):
    with pytest.raises(ValueError, match='invalid literal'):
        list(begin(SETTING).complete([{'x': 'one'}], _number))
    assert begin(SETTING).result['runs'] == []


def test_whoever_wants_no_more_waits_for_no_run(begin):
    runs = begin(SETTING).complete([{'seconds': 0}, {'seconds': 1000}, {'seconds': 2000}], _slept)
    assert next(runs) == {'seconds': 0}
    runs.close()
    assert begin(SETTING).result['runs'] == [{'seconds': 0}]


def _slept(seconds):
    time.sleep(seconds)
    return {}


def _number(x):
    return {'number': int(x)}
