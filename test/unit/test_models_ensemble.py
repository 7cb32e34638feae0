"""The probabilistic ensemble, its normalisers and its splits, held against what must be true of them."""

import math

import numpy as np
import pytest
import torch

from mbrl_ros.errors import ConfigError
from mbrl_ros.models.ensemble.ensemble import Ensemble, EnsembleConfig
from mbrl_ros.models.ensemble.linear import LinearPart
from mbrl_ros.models.ensemble.normalizer import Normalizer
from mbrl_ros.models.ensemble.split import bootstrap_counts, episode_holdout_mask, holdout_mask

CONFIG = EnsembleConfig(ensemble_size=3, hidden_layers=2, hidden_size=16)


def make(config=CONFIG, seed=0, inputs=4, outputs=2):
    ensemble = Ensemble(inputs, outputs, config, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():  # Biases start at zero; with zeros a forgotten bias would go unnoticed.
        for parameter in ensemble.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed + 1))
    return ensemble


def test_batched_members_equal_a_loop_over_members():
    ensemble, x = make(), torch.randn(3, 5, 4)
    mean, logvar = ensemble(x)
    for member in range(3):
        hidden = x[member]
        for weight, bias in zip(ensemble.weights[:-1], ensemble.biases[:-1]):
            hidden = hidden @ weight[member] + bias[member]
            hidden = hidden * torch.sigmoid(hidden)
        output = hidden @ ensemble.weights[-1][member] + ensemble.biases[-1][member]
        low, high = ensemble.min_logvar[member], ensemble.max_logvar[member]
        upper = high - torch.log1p(torch.exp(high - output[:, 2:]))
        torch.testing.assert_close(mean[member], output[:, :2])
        torch.testing.assert_close(logvar[member], low + torch.log1p(torch.exp(upper - low)), atol=1e-5, rtol=1e-5)


def test_batch_equals_single_rows():
    ensemble, x = make(), torch.randn(3, 6, 4)
    rows = [torch.cat(parts, dim=1) for parts in zip(*[ensemble(x[:, row:row + 1]) for row in range(6)])]
    torch.testing.assert_close(ensemble(x), tuple(rows))


def test_variance_stays_within_its_learned_bounds():
    ensemble = make()
    _, logvar = ensemble(1e3 * torch.randn(3, 50, 4))
    assert (logvar <= ensemble.max_logvar + 1e-4).all() and (logvar >= ensemble.min_logvar).all()


def test_rebase_keeps_the_function():
    ensemble, raw = make(), 5.0 + 3.0 * torch.randn(3, 9, 4)
    old, new = Normalizer(torch.full((4,), 5.0), torch.full((4,), 3.0)), Normalizer(torch.arange(4.0), 1.0 + torch.arange(4.0))
    scale = torch.tensor([0.5, 20.0])
    mean, logvar = ensemble(old.normalize(raw))
    ensemble.rebase(old, new, scale)
    rebased_mean, rebased_logvar = ensemble(new.normalize(raw))
    torch.testing.assert_close(rebased_mean, mean * scale, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(rebased_logvar, logvar + 2.0 * torch.log(scale), atol=1e-4, rtol=1e-4)


def test_initial_weights_are_truncated_at_two_sigma_of_the_fan_in():
    ensemble = Ensemble(25, 2, CONFIG, generator=torch.Generator().manual_seed(0))
    std = 0.5 / math.sqrt(25)
    assert ensemble.weights[0].detach().abs().max() <= 2 * std
    assert float(ensemble.weights[0].detach().std()) == pytest.approx(0.88 * std, rel=0.1)
    assert len({member.numpy().tobytes() for member in ensemble.weights[0].detach()}) == 3


def test_config_refuses_two_decay_rates():
    with pytest.raises(ConfigError, match='weight_decay needs three numbers'):
        EnsembleConfig(weight_decay=(0.1, 0.2))


def test_denormalized_normalized_values_are_the_values():
    x = torch.randn(100, 3) * torch.tensor([1e-4, 1.0, 1e4]) + torch.tensor([1.0, -3.0, 1e5])
    normalizer = Normalizer.fit(x, constant_scale=1.0)
    torch.testing.assert_close(normalizer.denormalize(normalizer.normalize(x)), x)
    torch.testing.assert_close(normalizer.normalize(x).std(dim=0, unbiased=False), torch.ones(3), atol=1e-2, rtol=0)


@pytest.mark.parametrize('value', [0.0, 7.0, 1e6])
def test_constant_column_gets_the_given_scale(value):
    normalizer = Normalizer.fit(torch.full((10, 1), value), constant_scale=0.25)
    assert float(normalizer.std) == 0.25
    assert torch.isfinite(normalizer.normalize(torch.full((10, 1), value + 1))).all()


def test_jitter_at_rest_is_no_scale_and_small_units_and_rare_flags_are():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(200, 5, generator=draw) * torch.tensor([1.0, 0.5, 1e-5, 1e-7, 0.0])
    x[77, 4] = 1.0
    scale = Normalizer.fit(x, constant_scale=1.0).std
    torch.testing.assert_close(scale, torch.tensor([1.0, 0.5, 1e-5, 1.0, 0.0705]), rtol=0.2, atol=0)


def test_network_inputs_are_bounded_and_what_is_no_number_stays_so():
    normalizer = Normalizer(torch.tensor([1.0]), torch.tensor([0.1]))
    found = normalizer.network_inputs(torch.tensor([[1.2], [1e9], [-torch.inf], [torch.nan]]))
    torch.testing.assert_close(found.squeeze(1), torch.tensor([2.0, 20.0, -20.0, torch.nan]), equal_nan=True)


def test_ridge_finds_the_map_of_each_bootstrap():
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    truth = torch.tensor([[1.0, 0.0], [-2.0, 0.5], [0.0, 3.0]])
    counts = torch.as_tensor(bootstrap_counts(np.arange(60), 4, seed=0))
    part = LinearPart.fit(x, x @ truth + 0.7, counts, ridge=1e-6)
    torch.testing.assert_close(part.weight, truth.expand(4, 3, 2), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(part(x.expand(4, -1, -1)), (x @ truth + 0.7).expand(4, -1, -1), atol=1e-5, rtol=1e-5)


def test_held_out_stays_held_out_when_data_arrive():
    keys = np.random.default_rng(0).integers(0, 2**62, 2000)
    later = holdout_mask(keys, 0.125)
    assert (holdout_mask(keys[:300], 0.125) == later[:300]).all()
    assert later.mean() == pytest.approx(0.125, abs=0.03)
    order = np.random.default_rng(1).permutation(2000)
    assert (holdout_mask(keys[order], 0.125) == later[order]).all()


def test_one_of_eight_episodes_is_held_out_as_a_whole_and_parts_of_the_first_ones():
    steps, period_ns = 40, 50_000_000
    episodes = np.repeat(np.arange(64), steps)
    stamps_ns = np.arange(len(episodes)) * period_ns
    mask = episode_holdout_mask(stamps_ns, episodes, period_ns, 0.125)
    shares = mask.reshape(64, steps).mean(axis=1)
    assert set(shares[7:]) == {0.0, 1.0}
    assert (shares[8:].reshape(7, 8).sum(axis=1) == 1.0).all()
    assert len(set(shares[8:].reshape(7, 8).argmax(axis=1))) > 2
    parts = mask[:7 * steps].reshape(-1, 10)
    assert (parts.all(axis=1) | ~parts.any(axis=1)).all()
    for first in range(1, 8):
        assert 0.0 < episode_holdout_mask(stamps_ns[:first * 80], episodes[:first * 80], period_ns, 0.125).mean() < 0.2


def test_held_out_episodes_stay_held_out_when_data_arrive_or_go():
    episodes = np.repeat(np.arange(40), 25)
    stamps_ns = np.arange(1000) * 50_000_000
    whole = episode_holdout_mask(stamps_ns, episodes, 50_000_000, 0.125)
    for kept in (slice(300), slice(300, None), slice(411, 777)):
        np.testing.assert_array_equal(episode_holdout_mask(stamps_ns[kept], episodes[kept], 50_000_000, 0.125), whole[kept])


def test_few_transitions_of_an_episode_still_leave_a_holdout_in_a_row():
    for start in range(0, 300, 7):
        stamps_ns = (start + np.arange(20)) * 50_000_000
        mask = episode_holdout_mask(stamps_ns, np.zeros(20), 50_000_000, 0.125, minimum=6)
        assert 6 <= mask.sum() <= 14 and np.abs(np.diff(mask.astype(int))).sum() <= 4


def test_few_transitions_still_leave_a_holdout():
    assert holdout_mask(np.arange(20), 0.01, minimum=6).sum() == 6


def test_bootstraps_differ_between_members_and_keep_old_counts():
    keys = np.arange(1000) * 50_000_000
    counts = bootstrap_counts(keys, 5, seed=0)
    assert (counts[:, :100] == bootstrap_counts(keys[:100], 5, seed=0)).all()
    correlation = np.corrcoef(counts)
    assert np.abs(correlation - np.eye(5)).max() < 0.15
    assert counts.mean() == pytest.approx(1.0, abs=0.05) and counts.var() == pytest.approx(1.0, abs=0.1)
    assert (counts == 0).mean() == pytest.approx(math.exp(-1), abs=0.03)
