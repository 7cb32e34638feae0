"""The tool's frame in compiled code: the same numbers as the frame itself gives, a step at a time and over whole trajectories."""

import dataclasses
import math
from typing import NamedTuple

import pytest
import torch

from mbrl_ros.models.ensemble.ensemble import EnsembleConfig
from mbrl_ros.models.ensemble.kernels import native
from mbrl_ros.models.ensemble.precision import stand_in
from mbrl_ros.models.ensemble.predictor import Predictor
from mbrl_ros.models.framed import FramedModel
from mbrl_ros.planning.propagation import ParticleDraws, rollout
from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.spaces.joint_tool import JointToolSpace
from mbrl_ros.spaces.tabletop import BODY, BODY_YAW, TOOL_YAW
from mbrl_ros.spaces.tool_frame import ToolFrame

COMPILED = [pytest.param(kind, marks=pytest.mark.skipif(
    not native.is_supported(kind),
    reason='needs AVX2 or AVX-512, for short numbers its instructions for them, and a compiler at installation'))
    for kind in ('float32', 'avx2', 'bfloat16', 'float16')]
SIZES = 18, 5
MEMBERS, HORIZON, CANDIDATES = 3, 6, 61
#: What a state may differ by; between short numbers more, as a last bit that differs may round to another one.
TOLERANCES = {'float32': 1e-5, 'avx2': 1e-5, 'bfloat16': 1e-3, 'float16': 1e-3}


class PlainFrame(ToolFrame):
    """The same frame by another name, for which there is no compiled code."""


class Models(NamedTuple):
    """One predictor in the frame compiled, and in the frame as torch has it; and what they may differ by."""

    compiled: FramedModel
    plain: FramedModel
    tolerance: float


@pytest.fixture
def models(request):
    """Of one kind of compiled code."""
    precision = 'float32' if request.param == 'avx2' else request.param
    predictor = Predictor(parameters(), precision=precision, backend=request.param)
    return Models(FramedModel(ToolFrame(), predictor, 5), FramedModel(PlainFrame(), predictor, 5), TOLERANCES[request.param])


def parameters():
    """A model whose networks say something: what they foresee changes a scene by some centimetres a step."""
    untrained = stand_in(*SIZES, EnsembleConfig(ensemble_size=MEMBERS, hidden_size=40))
    # Initial weights are small, those of the last layer ten times smaller still.
    network = {name: 10.0 * value if name.startswith('weights') else value for name, value in untrained.network.items()}
    return dataclasses.replace(untrained, network=network)


def scenes(*leading, seed=0):
    """Observations, shape (*leading, 18), with tool and body anywhere and turned anyhow, and actions, shape (*leading, 5)."""
    generator = torch.Generator().manual_seed(seed)
    obs = 0.3 * torch.randn(*leading, SIZES[0], generator=generator)
    obs[..., BODY] = obs[..., :3] + 0.05 * torch.randn(*leading, 3, generator=generator)
    obs[..., [TOOL_YAW, BODY_YAW]] = 4.0 * math.pi * (2.0 * torch.rand(*leading, 2, generator=generator) - 1.0)
    return obs, 2.0 * torch.rand(*leading, SIZES[1], generator=generator) - 1.0


def drawn(model, propagation='ts1', particles=2 * MEMBERS):
    return ParticleDraws.undrawn(model, HORIZON, particles, propagation).draw(torch.Generator().manual_seed(0))


@pytest.mark.parametrize('models', COMPILED, indirect=True)
def test_compiled_predictions_are_those_of_the_frame(models):
    obs, action = scenes(MEMBERS, 101)
    (mean, std), (plain_mean, plain_std) = (model.predict(obs, action) for model in models[:2])
    assert (plain_mean - obs).abs().mean() > 1e-3
    assert not torch.equal(mean, plain_mean), 'both came out of the same code'
    torch.testing.assert_close(mean, plain_mean, rtol=0.0, atol=models.tolerance)
    torch.testing.assert_close(std, plain_std, rtol=100.0 * models.tolerance, atol=0.0)


@pytest.mark.parametrize('models', COMPILED, indirect=True)
def test_scenes_far_from_any_that_was_learned_are_encoded_alike(models):
    obs, action = scenes(MEMBERS, 101)
    obs[0, :, BODY] += 20.0
    obs[1, :, TOOL_YAW] += 200.0 * math.pi
    obs[2, :, BODY_YAW] -= 200.0 * math.pi
    (mean, _), (plain_mean, _) = (model.predict(obs, action) for model in models[:2])
    torch.testing.assert_close(mean, plain_mean, rtol=1e-6, atol=models.tolerance)


@pytest.mark.parametrize('models', COMPILED, indirect=True)
def test_an_angle_without_any_digit_left_turns_a_scene_and_does_not_blow_it_up(models):
    obs, action = scenes(MEMBERS, 33)
    obs[..., TOOL_YAW] = 1e12
    mean, _ = models.compiled.predict(obs, action)
    assert (mean - obs)[..., :3].abs().max() < 1.0


@pytest.mark.parametrize('models', COMPILED, indirect=True)
@pytest.mark.parametrize('propagation', ['ts1', 'tsinf'])
def test_whole_trajectories_equal_step_by_step(models, propagation):
    start, actions = scenes(1)[0][0], scenes(CANDIDATES, HORIZON, seed=1)[1]
    draws = drawn(models.compiled, propagation)
    assert models.compiled.roll_out(start, actions, draws.members, draws.noise.squeeze(2)) is not None
    assert models.plain.roll_out(start, actions, draws.members, draws.noise.squeeze(2)) is None
    whole, steps = (rollout(model, start, actions, draws) for model in models[:2])
    torch.testing.assert_close(whole, steps, rtol=0.0, atol=models.tolerance)


@pytest.mark.parametrize('models', COMPILED, indirect=True)
@pytest.mark.parametrize('broken', [torch.nan, torch.inf, -torch.inf])
def test_a_trajectory_that_diverged_is_not_finite_in_its_last_step(models, broken):
    start, actions = scenes(1)[0][0], scenes(CANDIDATES, HORIZON, seed=1)[1]
    for entry in range(SIZES[0]):
        draws = drawn(models.compiled)
        draws.noise[1, 2, 0, entry] = broken
        finite = torch.isfinite(rollout(models.compiled, start, actions, draws)[-1]).all(dim=-1)  # (P, N)
        assert not finite[2].any()
        assert finite[[0, 1, 3, 4, 5]].all()


def test_what_is_not_compiled_goes_step_by_step():
    space = JointToolSpace(load_robot('panda'), KinematicChain.of_robot(load_robot('panda')))
    obs_size, action_size = 2 * len(space.state_names), len(space.action_names)
    features, action = space.frame.encode(torch.zeros(obs_size), torch.zeros(action_size))
    model = FramedModel(space.frame, Predictor(stand_in(len(features), len(action))), action_size)
    draws = drawn(model)
    assert model.roll_out(torch.zeros(obs_size), torch.zeros(8, HORIZON, action_size), draws.members,
                          draws.noise.squeeze(2)) is None


def test_without_compiled_code_the_frame_is_torchs():
    predictor = Predictor(parameters(), backend='torch')
    obs, action = scenes(MEMBERS, 20)
    predictions = [FramedModel(frame, predictor, 5).predict(obs, action) for frame in (ToolFrame(), PlainFrame())]
    torch.testing.assert_close(*predictions, rtol=0.0, atol=0.0)
