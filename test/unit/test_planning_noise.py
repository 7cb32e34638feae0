"""Coloured noise has the stated spectrum, unit variance, and no other source of chance than its generator."""

import pytest
import torch

from mbrl_ros.errors import ConfigError
from mbrl_ros.planning.noise import ColouredNoise


def draw(beta, horizon=16, count=20_000, seed=0):
    return ColouredNoise(horizon, beta).sample((count, horizon, 2), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize('beta', [0.0, 1.0, 2.0, 4.0])
@pytest.mark.parametrize('horizon', [1, 2, 7, 16])
def test_every_entry_has_mean_zero_and_variance_one(beta, horizon):
    noise = draw(beta, horizon)
    assert noise.shape == (20_000, horizon, 2)
    assert noise.mean(dim=0).abs().max() < 0.04
    assert (noise.var(dim=0) - 1.0).abs().max() < 0.06


@pytest.mark.parametrize('beta', [0.0, 1.0, 2.5])
def test_power_falls_with_frequency_to_the_minus_beta(beta):
    power = torch.fft.rfft(draw(beta), dim=1).abs().square().mean(dim=(0, 2))
    wanted = torch.arange(1.0, 9.0) ** -beta
    assert torch.allclose(power[1:] / power[1], wanted, rtol=0.1)
    assert power[0] == pytest.approx(float(power[1]), rel=0.05)


def test_white_noise_is_uncorrelated_and_red_noise_persists():
    def neighbours(beta):
        noise = draw(beta)
        return float((noise[:, 5] * noise[:, 6]).mean())

    assert abs(neighbours(0.0)) < 0.03
    assert neighbours(2.0) > 0.7


def test_columns_are_independent():
    noise = draw(2.0)
    assert abs(float((noise[..., 0] * noise[..., 1]).mean())) < 0.03


def test_same_generator_gives_the_same_noise():
    assert torch.equal(draw(2.0, count=3, seed=4), draw(2.0, count=3, seed=4))
    assert not torch.equal(draw(2.0, count=3, seed=4), draw(2.0, count=3, seed=5))


def test_an_empty_horizon_is_refused():
    with pytest.raises(ConfigError, match='horizon of at least 1, got 0'):
        ColouredNoise(0, 1.0)
