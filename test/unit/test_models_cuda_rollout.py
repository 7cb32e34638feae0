"""What surrounds the kernel for whole trajectories; what it computes is seen where there is a GPU, in test_learning_fused."""

import logging

import numpy as np
import pytest
import torch

from mbrl_ros.models.ensemble.ensemble import EnsembleConfig
from mbrl_ros.models.ensemble.kernels import cuda_rollout
from mbrl_ros.models.ensemble.precision import stand_in
from mbrl_ros.models.ensemble.predictor import Predictor

PARAMETERS = stand_in(4, 2, EnsembleConfig(ensemble_size=3, hidden_layers=2, hidden_size=24))
CPU = torch.device('cpu')


def test_weights_lie_in_steps_tiles_halves_and_columns():
    weight = torch.arange(2 * 20 * 40, dtype=torch.float32).view(2, 20, 40) % 251  # Whole numbers that bfloat16 has.
    packed = cuda_rollout._packed(weight).view(2, 2, 6, 2, 8, 8)  # Member, step, tile of columns, half of rows, column, row.
    for row, column in ((0, 0), (7, 39), (8, 1), (15, 9), (16, 38), (19, 17)):
        found = packed[:, row // 16, column // 8, row % 16 // 8, column % 8, row % 8]
        np.testing.assert_array_equal(found.float(), weight[:, row, column])
    assert (packed[:, 1, :, 1] == 0).all()
    assert (packed[:, :, 5] == 0).all()


def test_the_instruction_names_every_register_once():
    text = cuda_rollout._product('multiply', 3)
    assert 'm64n24k16' in text
    assert text.count('"+f"') == 12
    assert '%11}, %12, %13, p, 1, 1, 0, 0' in text


class Imitation:
    """In place of the kernel: steps of the same network, off by something."""

    off = 0.0

    def __init__(self, parameters, device):
        self._model = Predictor(parameters)

    def roll_out(self, obs, actions, members, noise):
        path = [obs.expand(members.shape[1], len(actions), -1)]
        for step in range(len(noise)):
            mean, std = self._model.predict(path[-1].contiguous(), actions[:, step].expand(len(path[-1]), -1, -1))
            path.append(torch.addcmul(mean, std, noise[step].unsqueeze(1)) + self.off)
        return torch.stack(path[1:])


class Off(Imitation):
    off = 0.1


class NotANumber(Imitation):
    off = torch.nan


def trusted(kernel, proven):
    return cuda_rollout.trusted(kernel, PARAMETERS, CPU, Predictor(PARAMETERS).predict, proven)


def test_a_kernel_that_agrees_with_single_steps_is_taken():
    assert isinstance(trusted(Imitation, {}), Imitation)


@pytest.mark.parametrize('kernel', [Off, NotANumber])
def test_a_kernel_that_does_not_agree_is_left_and_that_is_said_once(kernel, caplog):
    proven = {}
    with caplog.at_level(logging.INFO):
        assert [trusted(kernel, proven) for _ in range(2)] == [None, None]
    assert len(caplog.records) == 1
    assert 'step by step: the kernel differs from single steps by' in caplog.text


@pytest.mark.parametrize(('device', 'capability'), [('cpu', (9, 0)), ('cuda', (8, 0))])
def test_other_devices_have_no_kernel(device, capability):
    predict = Predictor(PARAMETERS).predict
    assert cuda_rollout.cuda_rollout(PARAMETERS, torch.device(device), predict, lambda device: capability) is None
