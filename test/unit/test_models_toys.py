"""The models with known answers give those answers."""

import numpy as np
import pytest
import torch

from mbrl_ros.models.toys import LinearModel, NamingModel, VelocityArm
from mbrl_ros.robots.profile import load_robot


def test_velocity_arm_moves_by_velocity_times_period():
    arm = VelocityArm(torch.tensor([2.0, 1.0]), 0.1, ensemble_size=2)
    mean, std = arm.predict(torch.zeros(2, 3, 4), torch.tensor([0.5, -1.0]).expand(2, 3, 2))
    assert torch.allclose(mean, torch.tensor([0.1, -0.1, 1.0, -1.0]).expand(2, 3, 4))
    assert not std.any()


def test_velocity_arm_steps_as_it_predicts():
    arm = VelocityArm.of_robot(load_robot('iiwa'), 0.05)
    rng = np.random.default_rng(0)
    obs, action = rng.normal(size=14), rng.uniform(-1.0, 1.0, 7)
    mean, _ = arm.predict(torch.tensor(obs).view(1, 1, -1), torch.tensor(action).view(1, 1, -1))
    assert mean[0, 0].numpy() == pytest.approx(arm.step(obs, action), abs=1e-6)


def test_linear_model_is_linear_with_constant_deviation():
    model = LinearModel(torch.tensor([[1.0, 2.0], [0.0, 1.0]]), torch.tensor([[0.0], [3.0]]), std=0.5)
    mean, std = model.predict(torch.ones(1, 1, 2), torch.ones(1, 1, 1))
    assert mean.tolist() == [[[3.0, 4.0]]]
    assert std.tolist() == [[[0.5, 0.5]]]


def test_naming_model_tells_who_answered():
    mean, _ = NamingModel(3).predict(torch.full((3, 1, 1), 4.0), torch.zeros(3, 1, 1))
    assert mean.flatten().tolist() == [41.0, 42.0, 43.0]
