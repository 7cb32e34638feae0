"""The choice of arithmetic: by measurement, for the shape at hand, and only where it is worth it."""

import pytest
import torch
from torch.overrides import TorchFunctionMode

from mbrl_ros.errors import ConfigError
from mbrl_ros.models.ensemble.ensemble import EnsembleConfig
from mbrl_ros.models.ensemble.precision import PrecisionChooser, stand_in
from mbrl_ros.models.ensemble.predictor import Predictor, precisions, tf32_products

CPU = torch.device('cpu')
SMALL = stand_in(4, 2, EnsembleConfig(hidden_size=8))


class Machine:
    """A machine with two precisions on which predictions take as long as one says."""

    def __init__(self, **durations):
        self.now, self.durations, self.calls, self.trajectory = 0.0, durations, [], 0.0
        machine = self

        class Timed:
            def __init__(self, parameters, device, precision):
                self.precision = precision

            def predict(self, obs, action):
                machine.calls.append(self.precision)
                machine.now += machine.durations[self.precision]

            def roll_out(self, obs, actions, members, noise):
                if self.precision == 'bfloat16':
                    machine.now += machine.trajectory
                    return torch.zeros(0)
                return None

            def in_frame(self, frame):
                return self if frame == 'compiled' else None

        self.predictor = Timed

    def chooser(self, setting='auto', horizon=1, frame=None):
        return PrecisionChooser(setting, CPU, 10, horizon, frame, lambda: self.now, self.predictor, tuple(self.durations))


def test_the_faster_precision_is_chosen_and_its_figures_are_said():
    choice = Machine(float32=0.004, bfloat16=0.001).chooser().choose(SMALL)
    assert choice.precision == 'bfloat16'
    assert str(choice) == 'bfloat16 (float32 4 ms, bfloat16 1 ms a prediction)'


def test_a_step_of_a_whole_trajectory_counts_where_those_are_wanted():
    machine = Machine(float32=0.004, bfloat16=0.008)
    machine.trajectory = 0.01
    assert machine.chooser().choose(SMALL).precision == 'float32'
    assert str(machine.chooser(horizon=5).choose(SMALL)) == 'bfloat16 (float32 4 ms, bfloat16 2 ms a prediction)'


@pytest.mark.parametrize('frame, chosen', [('compiled', 'bfloat16'), ('not compiled', 'float32')])
def test_out_of_a_frame_whole_trajectories_count_only_where_there_are_any(frame, chosen):
    machine = Machine(float32=0.004, bfloat16=0.008)
    machine.trajectory = 0.01
    assert machine.chooser(horizon=5, frame=frame).choose(SMALL).precision == chosen


@pytest.mark.parametrize('bfloat16', [0.0009, 0.0012])
def test_fewer_digits_have_to_be_worth_it(bfloat16):
    assert Machine(float32=0.001, bfloat16=bfloat16).chooser().choose(SMALL).precision == 'float32'


def test_a_machine_that_is_busy_now_and_then_does_not_change_the_choice():
    machine = Machine(float32=0.004, bfloat16=0.001)

    class Interrupted(machine.predictor):
        def predict(self, obs, action):
            super().predict(obs, action)
            machine.now += 0.02 * (self.precision == 'bfloat16' and len(machine.calls) % 5 != 0)

    machine.predictor = Interrupted
    assert machine.chooser().choose(SMALL).precision == 'bfloat16'


def test_each_shape_is_measured_once():
    machine = Machine(float32=0.004, bfloat16=0.001)
    chooser = machine.chooser()
    for _ in range(2):
        chooser.choose(SMALL)
    once = len(machine.calls)
    machine.durations['bfloat16'] = 0.01
    assert chooser.choose(stand_in(4, 2, EnsembleConfig(hidden_size=16))).precision == 'float32'
    assert len(machine.calls) == 2 * once


def test_a_named_precision_is_taken_without_measuring():
    machine = Machine(float32=0.004, bfloat16=0.001)
    choice = machine.chooser('float32').choose(SMALL)
    assert (choice.precision, choice.predict_ms, machine.calls) == ('float32', {}, [])


def test_a_machine_with_one_precision_has_no_choice():
    assert str(Machine(float32=0.004).chooser().choose(SMALL)) == 'float32'


def test_a_precision_that_the_device_lacks_is_refused():
    with pytest.raises(ConfigError, match="precision 'tf32' is not there on 'cpu'; there is auto, float32"):
        PrecisionChooser('tf32', CPU, 10)


def test_on_this_machine_the_choice_is_one_that_it_has():
    choice = PrecisionChooser('auto', CPU, 100).choose(SMALL)
    assert choice.precision in precisions('cpu')
    mean, std = Predictor(SMALL, CPU, choice.precision).predict(torch.zeros(5, 3, 4), torch.zeros(5, 3, 2))
    assert torch.isfinite(mean).all()
    assert (std > 0.0).all()


class Watched(TorchFunctionMode):
    """Keeps what torch's switch is at each batched product."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in (torch.bmm, torch.baddbmm):
            self.seen.append(torch.backends.cuda.matmul.allow_tf32)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize('is_tf32', [False, True])
def test_tf32_is_for_hidden_products_alone_and_the_switch_is_put_back(is_tf32):
    """What a predictor on CUDA does to torch's switch, seen from the products."""
    predictor = Predictor(stand_in(4, 2, EnsembleConfig(ensemble_size=2, hidden_layers=2, hidden_size=8)), backend='torch')
    predictor._network._on_cuda, predictor._network._is_tf32 = True, is_tf32
    switch = torch.backends.cuda.matmul
    with tf32_products(not is_tf32):
        with Watched() as watched:
            predictor.predict(torch.zeros(2, 3, 4), torch.zeros(2, 3, 2))
        assert watched.seen == [False, False, is_tf32, is_tf32]
        assert switch.allow_tf32 is not is_tf32
        with pytest.raises(RuntimeError):
            predictor._network.predict(torch.zeros(2, 3, 5), torch.zeros(2, 3, 2))
        assert switch.allow_tf32 is not is_tf32
    assert not switch.allow_tf32
