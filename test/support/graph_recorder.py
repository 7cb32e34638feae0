"""A stand-in for captured CUDA graphs that runs anywhere, and is as unforgiving.

It remembers torch's operations and the very tensors they read and wrote; a replay does them again, without any Python of what
was recorded. As in graphs that share a memory pool, what a step made for itself is worthless as soon as the step is over.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

#: Operations that need a number on the host, or a size that depends on numbers.
FORBIDDEN = {'aten::_local_scalar_dense', 'aten::nonzero', 'aten::masked_select', 'aten::_unique2', 'aten::equal',
             'aten::is_nonzero'}


class Tape(TorchDispatchMode):
    """The operations of a function, in order."""

    def __init__(self):
        super().__init__()
        self.operations, self.made = [], []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        schema = function._schema
        assert schema.name not in FORBIDDEN, f'{schema.name} cannot be captured'
        result = function(*args, **kwargs)
        is_in_place = any(argument.alias_info is not None and argument.alias_info.is_write for argument in schema.arguments)
        is_view = any(output.alias_info is not None for output in schema.returns)
        if is_in_place:
            self.operations.append((function, args, kwargs, []))
        elif not is_view:
            made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
            self.operations.append((function, args, kwargs, made))
            self.made += made
        return result

    def spoil(self):
        """Leave what was made as another graph would."""
        for tensor in self.made:
            if tensor.is_floating_point():
                tensor.fill_(torch.nan)
            elif tensor.numel():
                tensor.zero_()

    def replay(self):
        """Do it again with the same tensors."""
        for function, args, kwargs, made in self.operations:
            leaves = [leaf for leaf in tree_leaves(function(*args, **kwargs)) if isinstance(leaf, torch.Tensor)]
            for kept, new in zip(made, leaves):
                kept.copy_(new)
        self.spoil()


class GraphRecorder:
    """Implements `planning.captured.Recorder`; capturing also does what is captured, which nobody may notice."""

    def __init__(self, generator):
        self.generator, self.num_replays = generator, 0

    def warm_up(self, function):
        """Call it."""
        function()

    def capture(self, function):
        """Replay of its operations."""
        tape = Tape()
        with tape:
            function()
        tape.spoil()

        def replay():
            self.num_replays += 1
            tape.replay()
        return replay
