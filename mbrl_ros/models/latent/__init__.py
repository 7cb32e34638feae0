"""Models that predict in a latent space what matters for returns, and no observation."""
