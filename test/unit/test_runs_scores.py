"""The score table says what happened, and the verdict follows from it."""

import csv
import dataclasses
import math

import matplotlib.colors
import matplotlib.image
import numpy as np
import pytest

from mbrl_ros.runs.curve import save_learning_curve, save_return_curve
from mbrl_ros.runs.scores import HELD, EpisodeScore, ScoreBoard, ScoreConfig, load_scores, success_curve


def score(episode, success=True, distance_m=0.012, error=0.05):
    return EpisodeScore(episode, 30 * (episode + 1), 'running', success, distance_m, -12.5, 3, error, 14.2, 18.9, 0)


def test_line_shows_every_figure_of_the_episode():
    cells = ScoreBoard(ScoreConfig()).add(score(4)).split()
    assert cells == ['4', '150', 'running', 'yes', '1.2', '-12.5', '3', '0.050', '14.2', '18.9', '0']


def test_figures_that_do_not_exist_are_dashes():
    exploring = EpisodeScore(0, 50, 'exploring', False, 0.3, -50.0, 0, math.nan, math.nan, math.nan, 0)
    assert ScoreBoard(ScoreConfig()).add(exploring).split()[6:10] == ['-', '-', '-', '-']


@pytest.mark.parametrize(('tells_success', 'names', 'cells'), [(False, [], []), (True, ['success'], ['yes'])])
def test_without_a_goal_there_is_no_distance_and_success_only_if_it_is_told(tells_success, names, cells):
    board = ScoreBoard(ScoreConfig(), has_goal=False, tells_success=tells_success)
    assert board.header()[0].split()[:5 + len(names)] == ['episode', 'steps', 'phase', *names, 'return', 'model']
    line = board.add(score(4, True if tells_success else None, math.nan))
    assert line.split()[:5 + len(names)] == ['4', '150', 'running', *cells, '-12.5', '3']


def test_recent_successes_are_those_of_the_last_ten_planned_episodes():
    board = ScoreBoard(ScoreConfig())
    board.add(dataclasses.replace(score(0), phase='exploring'))
    board.add(score(1, None))
    assert board.recent == ''
    board.add(score(2, False))
    assert board.recent == '0 of the last 1 succeeded'
    for episode in range(3, 14):
        board.add(score(episode, episode % 2 == 0))
    assert board.recent == '5 of the last 10 succeeded'


@pytest.mark.parametrize('has_goal', [False, True])
def test_header_and_lines_have_the_same_width(has_goal):
    board = ScoreBoard(ScoreConfig(), has_goal=has_goal, tells_success=has_goal)
    assert len({len(line) for line in [*board.header(), board.add(score(0))]}) == 1


def test_a_change_that_was_noticed_is_kept_and_drawn(tmp_path):
    boards = [ScoreBoard(ScoreConfig(), tmp_path / f'{index}.csv') for index in range(2)]
    for episode in range(4):
        for board in boards:
            board.add(score(episode))
        if episode == 2:
            boards[1].note_change()
    boards[1].save()
    assert [one.changed for one in load_scores(tmp_path / '1.csv')] == [False, False, True, False]
    for index, board in enumerate(boards):
        save_learning_curve(board.scores, tmp_path / f'{index}.png', tolerance_m=0.02, title='')
    pictures = [matplotlib.image.imread(tmp_path / f'{index}.png') for index in range(2)]
    assert pictures[0].shape == pictures[1].shape and not np.array_equal(*pictures)


def test_verdict_looks_at_the_last_episodes_only():
    board = ScoreBoard(ScoreConfig(required_successes=3, last_episodes=4))
    for episode, success in enumerate([False, False, True, True, False, True]):
        board.add(score(episode, success))
    assert board.learned
    board.add(score(6, False))
    assert not board.learned
    assert board.summary('reach')[0].startswith('the arm did NOT learn to reach: 2 of the last 4')


def test_too_few_episodes_are_not_called_a_failure_to_learn():
    board = ScoreBoard(ScoreConfig(required_successes=19, last_episodes=20))
    board.add(score(0))
    assert not board.learned
    assert board.summary('reach')[0].startswith('too few episodes to tell whether the arm learned: 1 of the last 1')


def test_an_episode_in_which_the_arm_was_held_counts_neither_for_nor_against_the_policy(tmp_path):
    board = ScoreBoard(ScoreConfig(required_successes=2, last_episodes=2), tmp_path / 'scores.csv')
    held = dataclasses.replace(score(1, None), phase=HELD)
    assert board.add(held).split()[2:4] == ['held', '-']
    assert board.summary('reach') == ['no episode was scored: the arm was held in all 1']
    for episode in (2, 4):
        board.add(score(episode))
        board.add(dataclasses.replace(held, episode=episode + 1))
    assert board.learned
    verdict, totals = board.summary('reach')
    assert verdict.startswith('the arm learned to reach: 2 of the last 2')
    assert '5 episodes, 3 of which the arm was held in and which are not scored' in totals
    board.save()
    assert [one.success for one in load_scores(tmp_path / 'scores.csv')] == [None, True, None, True, None]
    assert success_curve(board.scores)[1].tolist() == [1.0, 1.0]
    save_learning_curve(board.scores, tmp_path / 'curve.png', tolerance_m=0.02, title='')


def test_where_nothing_is_asked_there_is_no_verdict():
    board = ScoreBoard(ScoreConfig(required_successes=0))
    board.add(score(0))
    assert board.learned
    assert board.summary('lift')[0] == '1 of the last 1 episodes succeeded'


def test_a_board_without_episodes_has_not_learned():
    board = ScoreBoard(ScoreConfig())
    assert not board.learned
    assert board.summary('reach') == ['no episode was finished']


def test_csv_holds_every_score_after_each_episode(tmp_path):
    board = ScoreBoard(ScoreConfig(), tmp_path / 'run' / 'scores.csv')
    for episode in range(2):
        board.add(score(episode))
        board.save()
        with (tmp_path / 'run' / 'scores.csv').open(encoding='utf-8') as file:
            rows = list(csv.DictReader(file))
        assert [int(row['episode']) for row in rows] == list(range(episode + 1))
    assert float(rows[1]['distance_m']) == 0.012


def test_learning_curve_is_a_picture_even_without_any_model(tmp_path):
    path = tmp_path / 'curve.png'
    save_learning_curve([score(0, False, 0.3, math.nan)], path, tolerance_m=0.02, title='reach')
    assert path.read_bytes().startswith(b'\x89PNG')


def test_success_is_counted_over_the_episodes_that_the_policy_played():
    shown = [dataclasses.replace(score(episode), phase='demonstrated') for episode in range(12)]
    explored = [dataclasses.replace(score(episode), phase='exploring') for episode in (12, 13)]
    steps, rate = success_curve([*shown, *explored, score(14, False), score(15)])
    assert steps.tolist() == [450, 480] and rate.tolist() == [0.0, 0.5]
    assert [len(part) for part in success_curve(shown)] == [0, 0]


def test_demonstrations_are_drawn_as_such_and_not_as_successes(tmp_path):
    pictures = []
    for success in (True, False):
        shown = [dataclasses.replace(score(episode, success), phase='demonstrated') for episode in range(3)]
        save_learning_curve([*shown, score(3, False)], tmp_path / 'curve.png', tolerance_m=0.02, title='')
        pictures.append(matplotlib.image.imread(tmp_path / 'curve.png'))
    np.testing.assert_array_equal(*pictures)
    assert not np.isclose(pictures[0][..., :3], matplotlib.colors.to_rgb('tab:green'), atol=0.01).all(axis=-1).any()
    save_learning_curve([score(episode, False) for episode in range(4)], tmp_path / 'curve.png', tolerance_m=0.02, title='')
    assert not np.array_equal(matplotlib.image.imread(tmp_path / 'curve.png'), pictures[0])


def test_return_curve_is_a_picture(tmp_path):
    path = tmp_path / 'curve.png'
    save_return_curve([score(0, None, math.nan, math.nan), score(1, None, math.nan)], path, title='Pendulum-v1')
    assert path.read_bytes().startswith(b'\x89PNG')


def test_a_return_curve_has_a_panel_of_successes_if_they_are_told(tmp_path):
    told = {'none': (None, None), 'failed': (False, False), 'reached': (False, True)}
    for name, successes in told.items():
        scores = [score(episode, success, math.nan) for episode, success in enumerate(successes)]
        save_return_curve(scores, tmp_path / f'{name}.png', title='Pendulum-v1')
    none, failed, reached = (matplotlib.image.imread(tmp_path / f'{name}.png') for name in told)
    assert failed.shape == reached.shape and failed.shape[0] > none.shape[0]
    assert not np.array_equal(failed, reached)


def test_scores_of_an_earlier_run_move_aside(tmp_path):
    for episode in (7, 0):
        board = ScoreBoard(ScoreConfig(), tmp_path / 'scores.csv')
        board.add(score(episode))
        board.save()
    earlier, = tmp_path.glob('scores-*.csv')
    assert '\n7,' in earlier.read_text()
    assert '\n7,' not in (tmp_path / 'scores.csv').read_text()
