"""A world model of three lines a method: a walk along a corridor that ends at a cliff, with a treasure beyond any horizon."""

import dataclasses

import torch


@dataclasses.dataclass(frozen=True)
class Corridor:
    """Place x moves by half an action; implements `types.WorldModel` with one member or several.

    An observation is (x in centimetres, 1), the state x alone. Each step earns x; beyond the cliff the episode ends.

    Attributes:
        cliff: Where the episode ends.
        treasure: Value of a place for each metre to the left.
        biases: What each member adds to a step, shape (E,).
    """

    cliff: float = 1.0
    treasure: float = 0.0
    biases: tuple[float, ...] = (0.0,)
    obs_size, action_size, sensed_size = 1, 1, 2
    output_scale = torch.ones(1)

    @property
    def ensemble_size(self) -> int:
        """E."""
        return len(self.biases)

    def start(self, obs: torch.Tensor) -> torch.Tensor:
        """See `WorldModel.start`."""
        return obs[:1] / 100.0

    def predict(self, obs: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `DynamicsModel.predict`."""
        return obs + 0.5 * action + torch.tensor(self.biases).view(-1, 1, 1), torch.zeros_like(obs)

    def outcome(self, state: torch.Tensor, action: torch.Tensor, next_state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `WorldModel.outcome`."""
        return next_state[..., 0].expand(next_state.shape[:-1]), (next_state[..., 0] > self.cliff).float()

    def value(self, state: torch.Tensor) -> torch.Tensor:
        """See `WorldModel.value`."""
        return -self.treasure * state[..., 0]
