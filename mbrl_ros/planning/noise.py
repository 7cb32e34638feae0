"""Coloured noise: action sequences that push one way for a while explore further than white ones."""

import torch

from mbrl_ros.errors import ConfigError


class ColouredNoise:
    """Gaussian sequences with power spectrum proportional to f^-beta (Timmer & König 1995, A&A 300:707).

    Frequencies are k / H for k = 0 … H // 2, in cycles per step; the constant part (k = 0) has the power of k = 1, so that
    it stays finite. Every entry has mean 0 and variance 1 whatever `beta` and H. Sequences are independent of each other.

    Args:
        horizon: Length H of a sequence.
        beta: Spectral exponent; 0 is white, 1 pink, 2 red.
        device: Where to sample.

    Raises:
        ConfigError: `horizon` is below 1.

    Note:
        The discrete Fourier synthesis is linear, so it is one (H, H) matrix, made once and applied to white noise.
    """

    def __init__(self, horizon: int, beta: float, device: torch.device | str = 'cpu') -> None:
        if horizon < 1:
            raise ConfigError(f'coloured noise needs a horizon of at least 1, got {horizon}')
        self.horizon = horizon
        self.beta = beta
        self._synthesis = _synthesis(horizon, beta).to(device, torch.float32)

    def sample(self, shape: tuple[int, ...], generator: torch.Generator, out: torch.Tensor | None = None) -> torch.Tensor:
        """Draw sequences along the second-to-last axis.

        Args:
            shape: (..., H, A); each of the A columns is a sequence of its own.
            generator: Source of all randomness, on the noise's device.
            out: Written to, of that shape; a new tensor when left out.

        Returns:
            Shape `shape`, float32.
        """
        white = torch.randn(shape, generator=generator, device=self._synthesis.device)
        return torch.matmul(self._synthesis, white, out=out)


def _synthesis(horizon: int, beta: float) -> torch.Tensor:
    """Matrix whose columns are the sampled cosines and sines, scaled to the spectrum; rows have norm 1."""
    time = torch.arange(horizon, dtype=torch.float64)
    columns = []
    for k in range(horizon // 2 + 1):
        amplitude = max(k, 1) ** (-beta / 2.0)
        phase = 2.0 * torch.pi * k * time / horizon
        if k == 0 or 2 * k == horizon:  # These two have no sine; their cosine carries the power of one frequency, not of a pair.
            columns.append(amplitude * torch.cos(phase))
        else:
            columns += [amplitude * 2**0.5 * torch.cos(phase), amplitude * 2**0.5 * torch.sin(phase)]
    matrix = torch.stack(columns, dim=1)
    return matrix / matrix.norm(dim=1, keepdim=True)
