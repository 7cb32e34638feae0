"""Keys become actions that end by themselves, and the terminal that they come from is left as it was found."""

import os
import pty
import termios

import numpy as np
import pytest
from rich.console import Console

from mbrl_ros.agents.experts.panel import draw
from mbrl_ros.agents.experts.pilot import KeyboardPilot, PilotConfig
from mbrl_ros.agents.experts.terminal import KeyTerminal
from mbrl_ros.errors import ConfigError
from mbrl_ros.types import EpisodeReport, Phase

REPORT = EpisodeReport(0, Phase.DEMONSTRATED, 0, 3, 17, 17, 0.0, 0.0, 0.085, False, (0.5, 0.0, 0.12), 0, 0)


@pytest.fixture
def pilot():
    return KeyboardPilot(PilotConfig(hold_s=0.2, fade_s=0.1, speed=0.5))


@pytest.mark.parametrize(('key', 'entry', 'way'), [
    ('w', 0, 1), ('s', 0, -1), ('a', 1, 1), ('d', 1, -1), ('r', 2, 1), ('f', 2, -1), ('q', 3, 1), ('e', 3, -1), ('W', 0, 1)])
def test_a_key_moves_one_entry_one_way(pilot, key, entry, way):
    assert pilot.press(key, 0.0)
    twist = pilot.action(0.0)[:4]
    assert twist[entry] == 0.5 * way
    assert np.count_nonzero(twist) == 1


@pytest.mark.parametrize(('now_s', 'share'), [(0.0, 1.0), (0.2, 1.0), (0.25, 0.5), (0.3, 0.0), (9.0, 0.0)])
def test_a_key_acts_for_a_moment_and_then_fades(pilot, now_s, share):
    pilot.press('w', 0.0)
    assert pilot.action(now_s)[0] == pytest.approx(0.5 * share)


def test_a_key_that_repeats_itself_goes_on_and_the_last_of_two_opposite_ones_counts(pilot):
    for tick in range(10):
        pilot.press('w', 0.05 * tick)
    assert pilot.action(0.6)[0] == 0.5
    pilot.press('s', 0.6)
    assert pilot.action(0.6)[0] == -0.5


def test_motions_of_several_keys_add_up(pilot):
    for key in 'wdq':
        pilot.press(key, 0.0)
    np.testing.assert_allclose(pilot.action(0.1), [0.5, -0.5, 0.0, 0.5, 1.0])


def test_space_stops_at_once_and_leaves_the_gripper(pilot):
    for key in 'wdqc ':
        pilot.press(key, 0.0)
    np.testing.assert_array_equal(pilot.action(0.0), [0.0, 0.0, 0.0, 0.0, -1.0])


def test_the_opening_stays_until_told_otherwise_and_a_new_episode_begins_open(pilot):
    pilot.press('c', 0.0)
    assert pilot.action(100.0)[4] == -1.0
    pilot.press('o', 100.0)
    assert pilot.action(100.0)[4] == 1.0
    pilot.press('c', 100.0)
    pilot.press('w', 100.0)
    pilot.reset()
    np.testing.assert_array_equal(pilot.action(100.0), [0.0, 0.0, 0.0, 0.0, 1.0])


def test_speed_has_bounds_and_outlasts_an_episode(pilot):
    for _ in range(20):
        pilot.press('+', 0.0)
    assert pilot.speed == 1.0
    for _ in range(20):
        pilot.press('-', 0.0)
    pilot.reset()
    assert pilot.speed == 0.1


def test_keys_without_a_meaning_change_nothing(pilot):
    before = pilot.action(0.0)
    assert not any(pilot.press(key, 0.0) for key in 'xyz1\n\t\x1a\x00')
    np.testing.assert_array_equal(pilot.action(0.0), before)


@pytest.mark.parametrize('seed', range(3))
def test_whatever_is_typed_the_action_stays_within_its_range(seed):
    rng, pilot = np.random.default_rng(seed), KeyboardPilot()
    for now_s in np.cumsum(rng.uniform(0.0, 0.2, 300)):
        pilot.press(chr(rng.integers(1, 128)), now_s)
        assert (np.abs(pilot.action(now_s)) <= 1.0).all()


@pytest.fixture
def terminal():
    """Both ends of a terminal: where a person types, and what the process sees."""
    person, process = pty.openpty()
    stream = os.fdopen(process, 'r')
    yield person, stream
    stream.close()
    os.close(person)


def test_keys_come_at_once_and_the_terminal_is_left_as_it_was(terminal):
    person, stream = terminal
    before = termios.tcgetattr(stream)
    with KeyTerminal('keyboard_teleop', stream) as keys:
        assert keys.read() == ''
        os.write(person, b'wa\x1b[A\x1bOBd\xc3\xa9')
        assert keys.read() == 'wad\u00e9'
        assert not termios.tcgetattr(stream)[3] & termios.ECHO
        assert termios.tcgetattr(stream)[3] & termios.ISIG
    assert termios.tcgetattr(stream) == before


def test_the_terminal_is_left_as_it_was_by_a_crash_too(terminal):
    _, stream = terminal
    before = termios.tcgetattr(stream)
    with pytest.raises(RuntimeError, match='crash'), KeyTerminal('keyboard_teleop', stream):
        raise RuntimeError('crash')
    assert termios.tcgetattr(stream) == before


def test_without_a_terminal_there_is_one_clear_line(tmp_path):
    (tmp_path / 'file').touch()
    with (tmp_path / 'file').open() as file, pytest.raises(ConfigError) as caught:
        KeyTerminal('keyboard_teleop', file)
    assert str(caught.value) == ('keyboard_teleop needs a terminal to read keys from, but its standard input is none; '
                                 'run it by itself in one: mbrl-ros run keyboard_teleop')


def screen(*arguments):
    console = Console(width=100, record=True, file=open(os.devnull, 'w'))  # noqa: SIM115
    console.print(draw(*arguments))
    console.file.close()
    return console.export_text()


def test_the_panel_shows_the_keys_and_what_the_episode_is_at(pilot):
    pilot.press('w', 0.0)
    text = screen(pilot, 0.0, REPORT, '', 'lift')
    for part in ('demonstrate: lift', 'open the gripper', '3, step 17: your turn', '8.5 cm', 'follows you', '50 %', 'x ▸'):
        assert part in text


def test_the_panel_names_a_hold(pilot):
    assert 'held: emergency_stop' in screen(pilot, 0.0, REPORT, 'emergency_stop', 'lift')
    assert 'waiting for the episode manager' in screen(pilot, 0.0, None, '', 'lift')
