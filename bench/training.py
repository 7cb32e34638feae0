"""Training time beside mbrl-lib: one epoch of the same ensemble on the same transitions, in the same batches."""

import math
import statistics
from typing import Any

import numpy as np
import torch
from contenders import mbrl_model

from mbrl_ros.benchmarks.work import NetworkSize, time_interleaved
from mbrl_ros.models.ensemble.ensemble import EnsembleConfig
from mbrl_ros.models.ensemble.trainer import EnsembleTrainer, TrainerConfig

_TRANSITIONS = 10_000
_HOLDOUT = 0.125
_SEED = 0


def measure_training(size: NetworkSize, *, calls: int, batch_size: int, transitions: int = _TRANSITIONS) -> dict[str, Any]:
    """Time one epoch of each trainer, in turns.

    Both are given `transitions` to train on and, on top, the held-out share. An epoch is one gradient step for each batch of the
    transitions trained on, all members in the step. Both validate before the first step and after the last, on all that is held
    out, and both keep their members' best weights. Making the iterators (mbrl-lib), and normalising, bootstrapping and the
    linear part (ours) are included, as each round of learning needs them.

    Args:
        size: Sizes of the ensemble.
        calls: Timed epochs of each.
        batch_size: Transitions a gradient step and member.
        transitions: Trained on.

    Returns:
        Figures by name; without mbrl-lib's where it cannot be had, and then why.
    """
    held_out = round(transitions * _HOLDOUT / (1.0 - _HOLDOUT))
    random = np.random.default_rng(_SEED)
    obs = random.normal(size=(transitions + held_out, size.obs_size)).astype(np.float32)
    action = random.uniform(-1.0, 1.0, size=(transitions + held_out, size.action_size)).astype(np.float32)
    change = 0.1 * np.tanh(obs @ random.normal(size=(size.obs_size, size.obs_size)) / size.obs_size**0.5)
    next_obs = (obs + change + 0.01 * random.normal(size=obs.shape)).astype(np.float32)

    steps = math.ceil(transitions / batch_size)
    ensemble = EnsembleConfig(ensemble_size=size.ensemble_size, hidden_layers=size.hidden_layers, hidden_size=size.hidden_size)
    trainer = EnsembleTrainer(TrainerConfig(ensemble=ensemble, batch_size=batch_size, max_steps=steps, steps_per_check=steps,
                                            holdout_fraction=_HOLDOUT))
    result = {'transitions': transitions, 'held_out': held_out, 'batch_size': batch_size, 'gradient_steps': steps,
              'validations': 2, 'networks': size.ensemble_size}
    contenders = {'mbrl_ros': lambda call: trainer.fit(obs, action, next_obs, seed=call)}
    try:
        contenders['mbrl'] = _mbrl_epoch(size, obs, action, next_obs, held_out, batch_size)
    except ImportError as error:
        result['mbrl_missing'] = str(error)
    times = time_interleaved(contenders, calls=calls, warmup=1)
    for name, milliseconds in times.items():
        result[f'{name}_s'] = statistics.median(milliseconds) / 1e3
    if 'mbrl' in times:
        result['ratio_to_mbrl'] = result['mbrl_ros_s'] / result['mbrl_s']
    return result


def _mbrl_epoch(size: NetworkSize, obs: np.ndarray, action: np.ndarray, next_obs: np.ndarray, held_out: int, batch_size: int):
    """A function that trains mbrl-lib's model for one epoch, as its PETS does: new iterators, then `ModelTrainer.train`."""
    import mbrl.models
    import mbrl.util.common
    from mbrl.util.replay_buffer import ReplayBuffer

    buffer = ReplayBuffer(len(obs), (size.obs_size,), (size.action_size,), rng=np.random.default_rng(_SEED))
    never = np.zeros(len(obs), dtype=bool)
    buffer.add_batch(obs, action, next_obs, np.zeros(len(obs), dtype=np.float32), never, never)

    def epoch(call: int) -> None:
        torch.manual_seed(call)
        model = mbrl_model(size)
        model.update_normalizer(buffer.get_all())
        train, validation = mbrl.util.common.get_basic_buffer_iterators(
            buffer, batch_size, held_out / len(obs), ensemble_size=size.ensemble_size, shuffle_each_epoch=True,
            bootstrap_permutes=False)
        mbrl.models.ModelTrainer(model, optim_lr=1e-3, weight_decay=5e-5).train(train, validation, num_epochs=1, silent=True)

    return epoch
