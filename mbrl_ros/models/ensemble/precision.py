"""Choice of the precision of predictions: the fastest depends on processor, network and batch, so it is measured."""

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

#: A reduced precision has to be this many times faster; the margin also makes the choice repeatable.
_WORTH_IT = 1.25
_CALLS = 25
_ENOUGH_S = 1.0


@dataclasses.dataclass(frozen=True)
class PrecisionChoice:
    """The chosen precision, and the measurements behind it.

    Attributes:
        precision: As for `Predictor`.
        predict_ms: Minimum time of one prediction in each precision, because other load on the machine only adds to a time;
            empty where there was no choice.
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
        device: Device of the predictions.
        num_rows: Rows predicted at once, those of all members together.
        horizon: Steps of a trajectory; 1 measures single steps even where the model can roll out whole trajectories.
        frame: Frame that the model was learned in; None for none.
        clock: Seconds, monotonic.
        make: Makes a predictor from parameters, device and precision.
        available: Precisions to choose from, the exact one first; all of the device by default.

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
        """The precision for networks of this shape; the first network of a shape is measured."""
        shape = (parameters.sizes, parameters.shape.hidden_layers, parameters.shape.hidden_size)
        if shape not in self._chosen:
            self._chosen[shape] = self._measured(parameters)
        return self._chosen[shape]

    def _measured(self, parameters: DynamicsParameters) -> PrecisionChoice:
        names = self._available if self._setting == 'auto' else (self._setting,)
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
                if call:  # The first call warms up.
                    least[name] = min(least[name], 1e3 * (self._clock() - start) / steps)
            if call and self._clock() - begin > _ENOUGH_S:
                break
        fastest = min(least, key=least.get)
        exact = names[0]
        return PrecisionChoice(fastest if least[exact] > _WORTH_IT * least[fastest] else exact, least)

    def _prediction(self, model: Predictor, members: int, obs_size: int, action_size: int) -> tuple[Callable[[], object], int]:
        """The planner's call of the model, and the number of steps that it predicts."""
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
    """Parameters with random weights, for warming up and measuring before anything is learned."""
    config, inputs = config or EnsembleConfig(), obs_size + action_size
    network = Ensemble(inputs, obs_size, config, generator=torch.Generator().manual_seed(seed)).state_dict()
    members = config.ensemble_size
    linear = LinearPart(torch.zeros(members, inputs, obs_size), torch.zeros(members, 1, obs_size))
    scale = torch.full((obs_size,), 0.01)
    return DynamicsParameters(Normalizer.identity(inputs), Normalizer(torch.zeros(obs_size), scale), linear, torch.ones(obs_size),
                              network)
