"""What the rewards over the table have in common: settings, and the geometry of their terms."""

import dataclasses

import torch

from mbrl_ros.config import Config, setting
from mbrl_ros.spaces.tabletop import TILT
from mbrl_ros.spaces.tool import ToolSpace

#: Keeps the slope of a distance finite at zero.
_TINY = 1e-6


@dataclasses.dataclass(frozen=True)
class TableRewardConfig(Config):
    """How the tool comes down to where it works, and how the body comes to rest."""

    descent_m: float = setting(0.1, 'Height above where it works from which the tool comes down; 0 lets it come from anywhere.',
                               unit='m', low=0.0, high=0.5)
    descent_slope: float = setting(2.0, 'Height that the tool keeps for each metre beside the way down, up to descent_m.',
                                   low=0.0, high=100.0)
    settled_m: float = setting(0.05, 'Distance from the goal over which the body has to slow down.', unit='m', low=1e-3, high=1.0)
    clearance_m: float = setting(0.008, 'Height above the lowest allowed where its cost begins.', unit='m', low=1e-4, high=1.0)

    def height_kept(self, beside: torch.Tensor) -> torch.Tensor:
        """How far above where it works the tool is wanted, m, for its distance from the way down, m, both of shape (...).

        Who comes straight at a body shoves it along.
        """
        return (self.descent_slope * beside).clamp(min=0.0, max=self.descent_m)

    def lowness(self, height: torch.Tensor, lowest_m: float) -> torch.Tensor:
        """Squared share of the clearance above the lowest allowed height that a height has used up, shape (...)."""
        return (1.0 - (height - lowest_m) / self.clearance_m).clamp(min=0.0).square()


def tilt(obs: torch.Tensor, space: ToolSpace) -> torch.Tensor:
    """Squared sine of the angle between the tool's approach axis and straight down, shape (...) for obs of shape (..., O)."""
    return torch.zeros_like(obs[..., 0]) if space.tilt is None else obs[..., space.tilt].square().sum(dim=-1)


def posture_error(obs: torch.Tensor, space: ToolSpace) -> torch.Tensor:
    """Mean squared distance of the joints from home, rad², shape (...) for obs of shape (..., O); 0 where they are not seen."""
    joints = obs[..., TILT.stop:TILT.stop + len(space.home)].unbind(dim=-1)
    return sum(((q - home).square() for q, home in zip(joints, space.home)), torch.zeros_like(obs[..., 0])) / max(len(joints), 1)


def length(vector: torch.Tensor) -> torch.Tensor:
    """Euclidean length along the last axis, with a finite slope at zero."""
    return (vector.square().sum(dim=-1) + _TINY).sqrt()


def hypotenuse(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Length of two lengths at right angles to each other, with a finite slope at zero too."""
    return (one.square() + other.square() + _TINY).sqrt()
