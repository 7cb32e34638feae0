"""A setting that does not fit is refused with its name, its value and what fits."""

import dataclasses

import pytest

from mbrl_ros.config import Config, load_yaml, section, setting, with_changes
from mbrl_ros.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Inner(Config):
    gain: float = setting(1.0, 'Gain.', low=0.0, high=10.0)


@dataclasses.dataclass(frozen=True)
class Outer(Config):
    name: str = setting(doc='Name.')
    count: int = setting(3, 'Count.', low=1, high=5)
    rates_hz: tuple[float, ...] = setting((1.0, 2.0), 'Rates.', unit='Hz', low=0.0)
    mode: str = setting('fast', 'Mode.', choices=('fast', 'slow'))
    inner: Inner = section(Inner)
    low: int = setting(0)
    high: int = setting(1)

    def check(self):
        if self.low >= self.high:
            raise ConfigError(f'low {self.low} needs to be below high {self.high}')


def test_mapping_gives_the_config_and_back():
    values = {'name': 'arm', 'count': 2, 'rates_hz': [5, 6.5], 'inner': {'gain': 3}}
    config = Outer.from_mapping(values)
    assert config.rates_hz == (5.0, 6.5)
    assert config.inner.gain == 3.0
    assert Outer.from_mapping(config.to_mapping()) == config


@pytest.mark.parametrize(('values', 'text'), [
    ({'name': 'arm', 'cuont': 2}, "unknown key 'cuont' in Outer; did you mean 'count'"),
    ({'name': 'arm', 'inner': {'gian': 2.0}}, "unknown key 'gian' in Inner; did you mean 'gain'"),
    ({'count': 2}, "needs the key 'name'"),
    ({'name': 'arm', 'count': 6}, r'Outer.count needs a value in \[1, 5\], got 6'),
    ({'name': 'arm', 'count': 2.5}, 'Outer.count needs int, got 2.5'),
    ({'name': 'arm', 'count': True}, 'Outer.count needs int, got True'),
    ({'name': 'arm', 'rates_hz': [1.0, -1.0]}, r'Outer.rates_hz needs a value in \[0.0, inf\] Hz, got -1.0'),
    ({'name': 'arm', 'rates_hz': [float('nan')]}, 'Outer.rates_hz needs a finite number, got nan'),
    ({'name': 'arm', 'rates_hz': 'fast'}, 'Outer.rates_hz needs'),
    ({'name': 'arm', 'mode': 'warp'}, "Outer.mode needs one of fast, slow, got 'warp'"),
    ({'name': 'arm', 'inner': 4}, 'Outer.inner needs Inner, got 4'),
    ({'name': 'arm', 'low': 3}, 'low 3 needs to be below high 1'),
    ([], 'Outer needs a mapping'),
])
def test_what_does_not_fit_is_named(values, text):
    with pytest.raises(ConfigError, match=text):
        Outer.from_mapping(values)


def test_error_names_the_file():
    with pytest.raises(ConfigError, match='arm.yaml: unknown key'):
        Outer.from_mapping({'nmae': 'arm'}, 'arm.yaml')


@pytest.mark.parametrize(('text', 'error'), [
    ('a: [1, 2', 'is not valid YAML'),
    ('- 1\n- 2\n', 'needs a mapping at the top, got list'),
    ('a: 1\nb: 2\na: 3\n', 'repeats the key a'),
])
def test_bad_yaml_is_one_error_with_the_file(tmp_path, text, error):
    path = tmp_path / 'bad.yaml'
    path.write_text(text)
    with pytest.raises(ConfigError, match=error) as caught:
        load_yaml(path)
    assert str(path) in str(caught.value)


def test_missing_yaml_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match='cannot be read'):
        load_yaml(tmp_path / 'none.yaml')


def test_single_settings_are_changed_and_the_mapping_stays_as_it_was():
    given = {'gain': 1.0, 'inner': {'low': 1, 'high': 2}}
    changed = with_changes(given, ['inner.high=3', 'other.flag=true', 'gain = 2.5'])
    assert changed == {'gain': 2.5, 'inner': {'low': 1, 'high': 3}, 'other': {'flag': True}}
    assert given == {'gain': 1.0, 'inner': {'low': 1, 'high': 2}}


@pytest.mark.parametrize(('values', 'text'), [
    ({'nmae': 'arm'}, "unknown key 'nmae' in Outer"), ({'name': 3}, 'Outer.name needs str, got 3')])
def test_errors_begin_with_the_place_of_the_values(values, text):
    with pytest.raises(ConfigError, match=rf'^arm\.yaml: {text}'):
        Outer.from_mapping(values, 'arm.yaml')


@pytest.mark.parametrize(('change', 'text'), [
    ('gain', "needs the form section.name=value, got 'gain'"), ('=1', "needs the form section.name=value, got '=1'"),
    ('gain.inner=1', "needs the form section.name=value, got 'gain.inner=1'"), ('gain=[', "gain needs a YAML value, got '\\['")])
def test_a_change_of_another_form_is_refused(change, text):
    with pytest.raises(ConfigError, match=text):
        with_changes({'gain': 1.0}, [change])
