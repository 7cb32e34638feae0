"""The cost that the solver minimises, with the weights that are learned."""

import dataclasses

import numpy as np

from mbrl_ros.config import Config, setting


@dataclasses.dataclass(frozen=True)
class CostWeights(Config):
    """Weights beside the distance of the tool from the goal, which costs 1 a metre and step."""

    terminal: float = setting(3.0, 'Cost of each metre from the goal at the end of the horizon.', low=1e-4, high=1e4)
    speed: float = setting(0.003, 'Cost of the mean squared action.', low=1e-6, high=1e3)
    change: float = setting(0.01, 'Cost of the mean squared change of the action.', low=1e-6, high=1e3)
    posture: float = setting(0.01, 'Cost of the mean squared distance from home, in half the range of a joint.', low=1e-6,
                             high=1e3)
    softness_m: float = setting(0.02, 'Distance below which the cost of the distance becomes quadratic.', unit='m', low=1e-4,
                                high=1.0)

    def vector(self) -> np.ndarray:
        """Logarithms of the weights, shape (5,)."""
        return np.log([*vars(self).values()])

    @classmethod
    def of_vector(cls, logarithms: np.ndarray) -> 'CostWeights':
        """Inverse of `vector`; weights beyond their ranges are brought back to them."""
        fields = dataclasses.fields(cls)
        lows, highs = ([field.metadata[end] for field in fields] for end in ('low', 'high'))
        values = np.clip(np.exp(np.clip(logarithms, -50.0, 50.0)), lows, highs)
        return cls(**{field.name: float(value) for field, value in zip(fields, values)})
