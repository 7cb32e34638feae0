"""What TensorBoard is given of a run."""

import dataclasses
import math
import struct

import pytest
from tensorboardX.proto.event_pb2 import Event

from mbrl_ros.runs.scalars import ScalarLog
from mbrl_ros.runs.scores import EpisodeScore
from mbrl_ros.types import TrainingReport

SCORE = EpisodeScore(episode=0, total_steps=50, phase='running', success=True, distance_m=0.01, episode_return=-3.0,
                     model_version=1, model_error=0.5, plan_ms_p50=20.0, plan_ms_p99=30.0, deadline_misses=0, wall_s=2.0)
TRAINING = TrainingReport(stamp_ns=0, trained_episode=0, model_version=4, accepted=True, reason='', num_transitions=50,
                          holdout_rmse=0.25, holdout_nll=-1.5, duration_s=0.0)


def events(folder):
    """Events of all files of a folder, oldest first; a record is its length, a checksum, the event, another checksum."""
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            size = struct.unpack('<Q', data[:8])[0]
            yield Event.FromString(data[12:12 + size])
            data = data[16 + size:]


def scalars(folder):
    """Points by tag: control steps and value."""
    points = {}
    for event in events(folder):
        for value in event.summary.value:
            points.setdefault(value.tag, []).append((event.step, pytest.approx(value.simple_value)))
    return points


@pytest.fixture
def folder(tmp_path):
    log = ScalarLog(tmp_path / 'log')
    log.add(dataclasses.replace(SCORE, plan_ms_p50=math.nan, success=False), None)
    log.add(dataclasses.replace(SCORE, total_steps=100, wall_s=3.0), TRAINING)
    log.close()
    return tmp_path / 'log'


def test_figures_stand_against_control_steps(folder):
    points = scalars(folder)
    assert points['episode/return'] == [(50, -3.0), (100, -3.0)]
    assert points['time/episode_s'] == [(50, 2.0), (100, 3.0)]
    assert points['model/version'] == [(100, 4.0)]
    assert points['model/holdout_nll'] == [(100, -1.5)]


def test_success_is_the_share_of_the_last_20_planned_episodes_or_as_many_as_there_are(folder):
    assert scalars(folder)['episode/success_of_last_20'] == [(50, 0.0), (100, 0.5)]


@pytest.mark.parametrize('phase', ['demonstrated', 'exploring'])
def test_what_the_policy_did_not_play_is_no_success_of_its(tmp_path, phase):
    log = ScalarLog(tmp_path)
    log.add(dataclasses.replace(SCORE, phase=phase), None)
    log.add(dataclasses.replace(SCORE, total_steps=100), None)
    log.close()
    points = scalars(tmp_path)
    assert points['episode/success_of_last_20'] == [(100, 1.0)]
    assert [step for step, _ in points['episode/return']] == [50, 100]


def test_what_was_not_measured_is_left_out(folder):
    assert scalars(folder)['time/plan_ms_p50'] == [(100, 20.0)]


def test_without_a_goal_there_is_no_success(tmp_path):
    log = ScalarLog(tmp_path)
    log.add(dataclasses.replace(SCORE, success=None, distance_m=math.nan), None)
    log.close()
    assert not {'episode/success_of_last_20', 'episode/distance_m'} & set(scalars(tmp_path))


def test_a_run_that_goes_on_takes_back_what_was_written_after_its_checkpoint(folder):
    log = ScalarLog(folder, [SCORE])
    log.add(dataclasses.replace(SCORE, total_steps=99), None)
    log.close()
    starts = [event.step for event in events(folder) if event.session_log.status == event.session_log.START]
    assert starts == [51]


def test_the_success_of_a_run_that_goes_on_goes_on_from_its_scores(tmp_path):
    scores = [dataclasses.replace(SCORE, total_steps=50 * count, success=count % 3 > 0) for count in range(1, 31)]
    curves = {}
    for begin, end in ((0, 30), (0, 7), (7, 28), (28, 30)):
        folder = tmp_path / f'{begin}-{end}'  # Files of one folder are named by the second.
        log = ScalarLog(folder, scores[:begin])
        for score in scores[begin:end]:
            log.add(score, None)
        log.close()
        curves[begin, end] = scalars(folder)['episode/success_of_last_20']
    assert curves[0, 7] + curves[7, 28] + curves[28, 30] == curves[0, 30]
    assert len(curves[0, 30]) == 30
