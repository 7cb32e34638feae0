"""Figures become JSON that every reader takes."""

import json

from mbrl_ros.benchmarks.figures import write_figures


def test_what_is_not_finite_becomes_null_and_the_folder_is_made(tmp_path):
    path = tmp_path / 'new' / 'figures.json'
    write_figures(path, {'rows': [{'ms': 1.5, 'ratio': float('nan')}], 'times': (1.0, float('inf')), 'name': 'nan', 'none': None})
    assert json.loads(path.read_text(), parse_constant=lambda name: 1 / 0) == {
        'rows': [{'ms': 1.5, 'ratio': None}], 'times': [1.0, None], 'name': 'nan', 'none': None}
