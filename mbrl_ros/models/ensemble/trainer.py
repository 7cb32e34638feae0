"""Training of one round: split, normalise, fit the linear part, train the networks and keep each member's best weights."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from mbrl_ros.config import Config, section, setting
from mbrl_ros.errors import ModelError, ShapeError, TrainingCancelled
from mbrl_ros.models.ensemble.batches import Batch, BootstrapBatches, all_rows
from mbrl_ros.models.ensemble.ensemble import Ensemble, EnsembleConfig
from mbrl_ros.models.ensemble.gradient import PRECISIONS, LossGradient, product_type
from mbrl_ros.models.ensemble.linear import LinearPart
from mbrl_ros.models.ensemble.normalizer import Normalizer
from mbrl_ros.models.ensemble.parameters import DynamicsParameters
from mbrl_ros.models.ensemble.split import bootstrap_counts, holdout_mask
from mbrl_ros.models.ensemble.warm_start import warm_network

#: Scale of an output that never varied, far below the resolution of any sensor.
_CONSTANT_OUTPUT = 1e-6
#: Smallest scale of an output in last digits of its float32 observation, whose rounding would be a large error otherwise.
_LAST_DIGITS = 16.0
_FINAL_RATE = 0.02
_FEWEST_TRAINED_ON = 4
_SMALLEST_RESIDUAL = 1e-4


@dataclasses.dataclass(frozen=True)
class TrainerConfig(Config):
    """How one round is trained."""

    ensemble: EnsembleConfig = section(EnsembleConfig, 'The networks.')
    holdout_fraction: float = setting(0.125, 'Share of the transitions held out for validation.', low=0.01, high=0.5)
    min_holdout: int = setting(6, 'Fewest transitions held out.', low=1)
    holdout_by: str = setting('transition', 'What is held out: single transitions, or whole episodes and, of the first seven, '
                                            'parts of ten steps.', choices=('transition', 'episode'))
    ridge: float = setting(0.01, 'Penalty on the linear part, in units of one sample.', low=1e-9)
    learning_rate: float = setting(3e-3, 'First step size of Adam; it falls along a half cosine.', low=1e-6, high=0.1)
    batch_size: int = setting(64, 'Transitions a gradient step and member.', low=1)
    max_steps: int = setting(1000, 'Most gradient steps a round.', low=1)
    steps_per_check: int = setting(50, 'Gradient steps between validations.', low=1)
    patience: int = setting(8, 'Validations without a better member before training stops.', low=1)
    precision: str = setting('auto', 'Arithmetic of the matrix products in gradient steps; auto takes what is faster here.',
                             choices=PRECISIONS)
    warm_start: bool = setting(True, 'Whether training starts from the networks of the model in use.')


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """A candidate, and how its training went.

    Attributes:
        parameters: Each member at its best validation.
        curves: Held-out loss of each member at each validation, shape (C, E); the first before any step.
        steps: Number of gradient steps.
        holdout: Which transitions were held out, shape (N,), bool.
    """

    parameters: DynamicsParameters
    curves: np.ndarray
    steps: int
    holdout: np.ndarray


class EnsembleTrainer:
    """Fits dynamics parameters to transitions; has no state between calls."""

    def __init__(self, config: TrainerConfig) -> None:
        self.config = config

    def fit(self, obs: np.ndarray, action: np.ndarray, next_obs: np.ndarray, *, seed: int, keys: np.ndarray | None = None,
            holdout: np.ndarray | None = None, initial: DynamicsParameters | None = None,
            extra: Sequence[np.ndarray] | None = None, is_cancelled: Callable[[], bool] = bool) -> TrainingResult:
        """Train one round.

        Args:
            obs: Shape (N, O).
            action: Shape (N, A).
            next_obs: Shape (N, O).
            seed: Seed of initial weights and batches; bootstraps follow from the keys. The same seed and data give the same
                bytes.
            keys: Integers that identify the transitions over all rounds, shape (N,); their index by default.
            holdout: Which transitions are held out, shape (N,), bool; by default it follows from the keys.
            initial: Parameters to start from, used if `warm_start` is set and `warm_network` finds sizes and scales alike.
            extra: Further obs, action and next_obs to train on; none of them is held out.
            is_cancelled: Asked between validations.

        Raises:
            ShapeError: Shapes of the arrays do not agree.
            ModelError: Too few transitions, or values that are not finite.
            TrainingCancelled: `is_cancelled` returned true.
        """
        config = self.config
        members = config.ensemble.ensemble_size
        _check(obs, action, next_obs)
        keys = np.arange(len(obs)) if keys is None else np.asarray(keys)
        holdout = holdout_mask(keys, config.holdout_fraction, config.min_holdout) if holdout is None else holdout
        if (~holdout).sum() < _FEWEST_TRAINED_ON:
            raise ModelError(f'training needs at least {config.min_holdout + _FEWEST_TRAINED_ON} transitions, got {len(obs)}')
        seen = torch.as_tensor(~holdout)
        if extra is not None:
            _check(*extra)
            obs, action, next_obs = (np.concatenate(pair) for pair in zip((obs, action, next_obs), extra))
            keys = np.concatenate([keys, -1 - np.arange(len(extra[0]))])  # Stamps are not negative.
            seen = torch.cat([seen, seen.new_ones(len(extra[0]))])
        x = torch.as_tensor(np.concatenate([obs, action], axis=1), dtype=torch.float32)
        y = torch.as_tensor(np.asarray(next_obs) - np.asarray(obs), dtype=torch.float32)
        smallest_change = _smallest_change(x[seen, :y.shape[1]])
        inputs, outputs = Normalizer.fit(x[seen], constant_scale=1.0), _change_normalizer(y[seen], smallest_change)
        x, y = inputs.network_inputs(x), outputs.normalize(y)
        counts = torch.as_tensor(bootstrap_counts(keys[seen.numpy()], members, seed=0))
        generator = torch.Generator().manual_seed(seed)
        network = Ensemble(x.shape[1], y.shape[1], config.ensemble, generator=generator)
        rows = x.expand(members, -1, -1)
        explained = torch.zeros(members, *y.shape)
        is_warm = config.warm_start and initial is not None
        if warm := warm_network(initial, network, inputs, outputs, smallest_change) if is_warm else None:
            network = warm
            # Fitting the linear part to the errors of the earlier network continues from the earlier model.
            with torch.no_grad():
                explained, _ = network(rows)
        linear = LinearPart.fit(x[seen], (y - explained)[:, seen], counts, config.ridge)
        errors = y - linear(rows)  # (E, N, O)
        scale = _residual_scale(errors[:, seen], counts)
        if warm:
            network.rebase(inputs, inputs, 1.0 / scale)
        dtype = product_type(config.precision, config.ensemble.hidden_size, config.batch_size)
        batches = BootstrapBatches(x[seen].to(dtype), errors[:, seen] / scale, counts, config.batch_size, generator)
        validation = all_rows(x[~seen], errors[:, ~seen] / scale)
        gradient = LossGradient(network, config.batch_size, dtype)
        curves, best, steps = self._descend(gradient, batches, _BestMembers(network, gradient, validation), is_cancelled)
        return TrainingResult(DynamicsParameters(inputs, outputs, linear, scale, best), curves, steps, holdout)

    def _descend(self, gradient: LossGradient, batches: BootstrapBatches, keeper: '_BestMembers',
                 is_cancelled: Callable[[], bool]) -> tuple[np.ndarray, dict[str, torch.Tensor], int]:
        """Curves, best weights by name, and the number of steps.

        Raises:
            TrainingCancelled: `is_cancelled` returned true.
        """
        config = self.config
        keeper.check()
        steps = 0
        while steps < config.max_steps:
            ahead = range(steps, min(steps + config.steps_per_check, config.max_steps))
            gradient.descend([batches.draw() for _ in ahead],
                             [config.learning_rate * _cosine(step / config.max_steps) for step in ahead])
            steps = ahead.stop
            if is_cancelled():
                raise TrainingCancelled
            keeper.check()
            if keeper.checks_without_gain >= config.patience:
                break
        return np.stack(keeper.curves), keeper.best, steps


def typical_change(obs: np.ndarray, next_obs: np.ndarray) -> np.ndarray:
    """Unit of errors on these transitions, (N, O) each: the scale that training on all of them would have, shape (O,)."""
    # Copied, because torch warns about read-only arrays, such as those of the replay buffer.
    start, change = (torch.from_numpy(np.array(values, dtype=np.float32)) for values in (obs, np.subtract(next_obs, obs)))
    return _change_normalizer(change, _smallest_change(start)).std.numpy()


class _BestMembers:
    """Each member's weights at its best validation; a non-finite loss is never best."""

    def __init__(self, network: Ensemble, gradient: LossGradient, validation: Batch) -> None:
        self._network, self._gradient, self._validation = network, gradient, validation
        self._lowest = torch.full((network.config.ensemble_size,), math.inf)
        self.best = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in network.state_dict().items()}
        self.curves: list[np.ndarray] = []
        self.checks_without_gain = 0

    @torch.no_grad()
    def check(self) -> None:
        """Validate all members and keep the weights of those with a new lowest loss."""
        loss = self._gradient.validate(self._validation)
        loss = torch.where(torch.isfinite(loss), loss, torch.full_like(loss, math.inf))
        better = loss < self._lowest
        self._lowest = torch.where(better, loss, self._lowest)
        for name, tensor in self._network.state_dict().items():
            self.best[name][better] = tensor[better]
        self.checks_without_gain = 0 if better.any() else self.checks_without_gain + 1
        self.curves.append(loss.numpy())


def _change_normalizer(change: torch.Tensor, smallest_change: torch.Tensor) -> Normalizer:
    fitted = Normalizer.fit(change, constant_scale=_CONSTANT_OUTPUT)
    return Normalizer(fitted.mean, fitted.std.maximum(smallest_change))


def _smallest_change(obs: torch.Tensor) -> torch.Tensor:
    """Smallest scale of a change, shape (O,), that is not the rounding of observations, shape (N, O)."""
    return _LAST_DIGITS * torch.finfo(torch.float32).eps * obs.abs().amax(dim=0)


def _residual_scale(errors: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Spread of the linear part's errors, shape (O,), on rows outside of each member's own bootstrap."""
    unseen = (counts == 0).unsqueeze(-1)
    spread = (torch.square(errors) * unseen).sum(dim=(0, 1)) / unseen.sum().clamp(min=1)
    return spread.sqrt().clamp(min=_SMALLEST_RESIDUAL)


def _cosine(progress: float) -> float:
    return _FINAL_RATE + (1.0 - _FINAL_RATE) * 0.5 * (1.0 + math.cos(math.pi * progress))


def _check(obs: np.ndarray, action: np.ndarray, next_obs: np.ndarray) -> None:
    shapes = [np.shape(values) for values in (obs, action, next_obs)]
    if any(len(shape) != 2 or shape[0] != shapes[0][0] for shape in shapes) or shapes[0] != shapes[2]:
        raise ShapeError(f'training needs obs (N, O), action (N, A), next_obs (N, O), got {shapes[0]}, {shapes[1]}, {shapes[2]}')
    for name, values in (('obs', obs), ('action', action), ('next_obs', next_obs)):
        if not np.isfinite(values).all():
            row = int(np.argmin(np.isfinite(values).all(axis=1)))
            raise ModelError(f'training data hold a value of {name} that is not finite, at transition {row}')
