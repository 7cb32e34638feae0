"""Coloured noise: action sequences that keep a direction for several steps explore further than white noise."""

import torch

from mbrl_ros.errors import ConfigError


class ColouredNoise:
    """Gaussian sequences with power spectrum proportional to f^-beta (Timmer & König 1995, A&A 300:707).

    Frequencies are k / H for k = 0 … H // 2, in cycles per step. The constant part (k = 0) has the power of k = 1, which keeps
    it finite. Every entry has mean 0 and variance 1 for any `beta` and H. Sequences are independent of each other.

    Args:
        horizon: Length H of a sequence.
        beta: Spectral exponent; 0 is white, 1 pink, 2 red.
        device: Device of the samples.

    Raises:
        ConfigError: `horizon` is below 1.

    Note:
        The discrete Fourier synthesis is linear: one (H, H) matrix, made once, is applied to white noise.
    """

    def __init__(self, horizon: int, beta: float, device: torch.device | str = 'cpu') -> None:
        if horizon < 1:
            raise ConfigError(f'coloured noise needs a horizon of at least 1, got {horizon}')
        self._synthesis = _synthesis(horizon, beta).to(device, torch.float32)

    def sample(self, shape: tuple[int, ...], generator: torch.Generator, out: torch.Tensor | None = None) -> torch.Tensor:
        """Draw noise of `shape` (..., H, A), float32, into `out` if given; each of the A columns is a sequence of its own."""
        white = torch.randn(shape, generator=generator, device=self._synthesis.device)
        return torch.matmul(self._synthesis, white, out=out)


def _synthesis(horizon: int, beta: float) -> torch.Tensor:
    """Matrix whose columns are sampled cosines and sines, scaled to the spectrum; its rows have norm 1."""
    time = torch.arange(horizon, dtype=torch.float64)
    columns = []
    for k in range(horizon // 2 + 1):
        amplitude = max(k, 1) ** (-beta / 2.0)
        phase = 2.0 * torch.pi * k * time / horizon
        if k == 0 or 2 * k == horizon:  # These two have no sine, and their cosine has the power of one frequency, not of a pair.
            columns.append(amplitude * torch.cos(phase))
        else:
            columns += [amplitude * 2**0.5 * torch.cos(phase), amplitude * 2**0.5 * torch.sin(phase)]
    matrix = torch.stack(columns, dim=1)
    return matrix / matrix.norm(dim=1, keepdim=True)
