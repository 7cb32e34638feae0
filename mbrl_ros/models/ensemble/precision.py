"""Which arithmetic to predict in: what the fastest is depends on the processor, the network and the batch, so it is measured."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable

import torch

from mbrl_ros.errors import ConfigError
from mbrl_ros.models.ensemble.ensemble import Ensemble, EnsembleConfig
from mbrl_ros.models.ensemble.kernels.cuda_graph import Captured
from mbrl_ros.models.ensemble.linear import LinearPart
from mbrl_ros.models.ensemble.normalizer import Normalizer
from mbrl_ros.models.ensemble.parameters import DynamicsParameters
from mbrl_ros.models.ensemble.predictor import Predictor, precisions
from mbrl_ros.spaces.frame import Frame

#: Fewer digits have to be worth it; and a choice that is not close comes out the same every time.
_WORTH_IT = 1.25
_CALLS = 25
_ENOUGH_S = 1.0


@dataclasses.dataclass(frozen=True)
class PrecisionChoice:
    """What to predict in, and why.

    Attributes:
        precision: As for `Predictor`.
        predict_ms: Least time of one prediction in each precision that was tried, since all that the machine does besides only
            ever adds to it; empty where nothing had to be measured.
    """

    precision: str
    predict_ms: dict[str, float]

    def __str__(self) -> str:
        measured = ', '.join(f'{name} {value:.3g} ms' for name, value in self.predict_ms.items())
        return f'{self.precision} ({measured} a prediction)' if measured else self.precision


class PrecisionChooser:
    """Chooses once for each shape of network.

    Args:
        setting: `auto`, or a precision by name.
        device: Where to predict.
        num_rows: Rows predicted at once, those of all members together.
        horizon: Steps of the trajectories that are wanted of the model; 1 where it is asked step by step whatever it can do.
        frame: What the model was learned in and the trajectories are wanted out of; None for none.
        clock: Seconds, monotonic.
        make: Makes a predictor of parameters, device and precision.
        available: Precisions to choose from, the exact one first; all of the device when left out.

    Raises:
        ConfigError: The device does not have the precision that was named.
    """

    def __init__(self, setting: str, device: torch.device, num_rows: int, horizon: int = 1,
                 frame: Frame | None = None, clock: Callable[[], float] = time.perf_counter,
                 make: Callable[..., Predictor] = Predictor, available: tuple[str, ...] = ()) -> None:
        self._make, self._available = make, available or precisions(device)
        if setting not in ('auto', *self._available):
            raise ConfigError(f'precision {setting!r} is not there on {device.type!r}; '
                              f'there is auto, {", ".join(self._available)}')
        self._setting, self._device, self._clock = setting, device, clock
        self._num_rows, self._horizon, self._frame = num_rows, horizon, frame
        self._chosen: dict[tuple, PrecisionChoice] = {}

    def choose(self, parameters: DynamicsParameters) -> PrecisionChoice:
        """The precision for a network of this shape; measured when it is the first of its shape."""
        shape = (parameters.sizes, parameters.shape.hidden_layers, parameters.shape.hidden_size)
        if shape not in self._chosen:
            self._chosen[shape] = self._measured(parameters)
        return self._chosen[shape]

    def _measured(self, parameters: DynamicsParameters) -> PrecisionChoice:
        if self._setting != 'auto':
            return PrecisionChoice(self._setting, {})
        names = self._available
        if len(names) == 1:
            return PrecisionChoice(names[0], {})
        predictions = {name: self._prediction(self._make(parameters, self._device, name), *parameters.sizes) for name in names}
        least = dict.fromkeys(names, math.inf)
        begin = self._clock()
        for call in range(_CALLS + 1):
            for name, (predict, steps) in predictions.items():
                start = self._clock()
                predict()
                if self._device.type == 'cuda':
                    torch.cuda.synchronize(self._device)
                if call:  # The first warms up.
                    least[name] = min(least[name], 1e3 * (self._clock() - start) / steps)
            if call and self._clock() - begin > _ENOUGH_S:
                break
        fastest = min(least, key=least.get)
        exact = names[0]
        return PrecisionChoice(fastest if least[exact] > _WORTH_IT * least[fastest] else exact, least)

    def _prediction(self, model: Predictor, members: int, obs_size: int, action_size: int) -> tuple[Callable[[], object], int]:
        """What a planner has the model do, and the steps that this predicts."""
        count, zeros = math.ceil(self._num_rows / members), functools.partial(torch.zeros, device=self._device)
        predict = functools.partial(model.predict, zeros(members, count, obs_size), zeros(members, count, action_size))
        steps = 1
        whole = model if self._frame is None else model.in_frame(self._frame)
        if self._horizon > 1 and whole is not None:
            draws = self._horizon, members
            roll_out = functools.partial(whole.roll_out, zeros(obs_size), zeros(count, self._horizon, action_size),
                                         zeros(draws, dtype=torch.long), zeros(*draws, obs_size))
            if roll_out() is not None:
                predict, steps = roll_out, self._horizon
        return (Captured(predict, self._device) if self._device.type == 'cuda' else predict), steps


def stand_in(obs_size: int, action_size: int, config: EnsembleConfig | None = None, *, seed: int = 0) -> DynamicsParameters:
    """Parameters of the right sizes before anything is learned: to warm up with and to measure on.

    Args:
        obs_size: O.
        action_size: A.
        config: Sizes of the network; the default ones when left out.
        seed: Of the weights.
    """
    config, inputs = config or EnsembleConfig(), obs_size + action_size
    network = Ensemble(inputs, obs_size, config, generator=torch.Generator().manual_seed(seed)).state_dict()
    members = config.ensemble_size
    linear = LinearPart(torch.zeros(members, inputs, obs_size), torch.zeros(members, 1, obs_size))
    scale = torch.full((obs_size,), 0.01)
    return DynamicsParameters(Normalizer.identity(inputs), Normalizer(torch.zeros(obs_size), scale), linear, torch.ones(obs_size),
                              network)
