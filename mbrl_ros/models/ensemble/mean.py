"""Mean prediction of an ensemble in float64, with its derivatives, for planners that linearise the dynamics."""

import numpy as np

from mbrl_ros.models.ensemble.kernels.folding import FoldedParameters
from mbrl_ros.models.ensemble.normalizer import INPUT_BOUND
from mbrl_ros.models.ensemble.parameters import DynamicsParameters
from mbrl_ros.models.origin import Origin


class MeanModel:
    """Mean over the members of the predicted next observation; implements `planning.solver.horizon.LinearisableModel`.

    Args:
        parameters: Learned parameters; not modified.
        origin: What the learner subtracted from observations; empty for nothing.
    """

    def __init__(self, parameters: DynamicsParameters, origin: Origin = ()) -> None:
        folded = FoldedParameters.of(parameters)
        _, self.obs_size, self.action_size = parameters.sizes
        self._centre, self._scale, self._linear, self._mean, self._bias = map(_double, (
            folded.input_mean, folded.input_scale, folded.linear, folded.mean, folded.mean_bias))
        self._layers = [(_double(weight), _double(bias)) for weight, bias in zip(folded.weights, folded.biases)]
        self._output_scale = _double(parameters.outputs.std)
        if origin:
            self._centre[:self.obs_size] += origin

    def predict(self, obs: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Next observations, shape (B, O), for shapes (B, O) and (B, A)."""
        change, _ = self._changes(self._inputs(obs, action))
        return obs + change.mean(axis=0)

    def linearise(self, obs: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives of the next observation by observation, shape (B, O, O), and by action, shape (B, O, A)."""
        inputs = self._inputs(obs, action)
        _, layers = self._changes(inputs)
        back = np.swapaxes(self._mean, 1, 2)[:, None]  # (E, 1, O, hidden)
        for (weight, _), (share, hidden) in zip(reversed(self._layers), reversed(layers)):
            slope = share + hidden * (1.0 - share)
            back = (back * slope[:, :, None]) @ np.swapaxes(weight, 1, 2)[:, None]
        whole = (back + np.swapaxes(self._linear, 1, 2)[:, None]).mean(axis=0)  # (B, O, I)
        whole *= (self._scale * (np.abs(inputs) < INPUT_BOUND))[:, None]
        return whole[..., :self.obs_size] + np.eye(self.obs_size), whole[..., self.obs_size:]

    def disagreement(self, obs: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Standard deviation of the members' means, mean over entries, in typical changes of one step, shape (B,)."""
        change, _ = self._changes(self._inputs(obs, action))
        return (change.std(axis=0) / self._output_scale).mean(axis=-1)

    def _inputs(self, obs: np.ndarray, action: np.ndarray) -> np.ndarray:
        rows = (np.concatenate([obs, action], axis=-1) - self._centre) * self._scale
        return np.minimum(np.maximum(rows, -INPUT_BOUND), INPUT_BOUND)

    def _changes(self, inputs: np.ndarray) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
        """Change predicted by each member, (E, B, O), and of each layer logistic function and outputs, (E, B, hidden) each."""
        hidden, layers = inputs, []
        for weight, bias in self._layers:
            total = hidden @ weight + bias
            share = 0.5 + 0.5 * np.tanh(0.5 * total)  # The logistic function, without overflow.
            hidden = total * share
            layers.append((share, hidden))
        return inputs @ self._linear + hidden @ self._mean + self._bias, layers


def _double(tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy().copy()
