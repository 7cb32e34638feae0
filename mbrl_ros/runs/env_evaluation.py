"""How well a learned model does in a Gymnasium environment; the episodes are played by `evaluation.evaluate`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_ros.agents.bundle import AgentBundle
from mbrl_ros.runs.env_loop import BUILT_IN, LEARNED, EnvLoop, EnvLoopConfig
from mbrl_ros.runs.evaluation import Outcome

_CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class EnvEvaluation:
    """What to evaluate of an environment; implements `evaluation.AnyEvaluation`.

    Attributes:
        env_id: As `gymnasium.make` takes it.
        config: Settings that it is played with.
        model: File of the model.
        seed: Of the environment's chance and of plans.
        reward: `module:function` that the model was learned with; None where it was learned or is built in.
        pictures: Whether pictures will be asked for.
    """

    env_id: str
    config: EnvLoopConfig
    model: Path
    seed: int = 0
    reward: str | None = None
    pictures: bool = False

    def loop(self) -> EnvLoop:
        """What it is played in; whether the reward is learned is the model's to say.

        Raises:
            ConfigError: As for `EnvLoop`.
            BundleError: The model cannot be read.
        """
        is_learned = 'reward' in AgentBundle.load(self.model).card.contract.state_names
        reward = self.reward or (LEARNED if is_learned else BUILT_IN)
        return EnvLoop(self.env_id, self.config.evaluated(), reward=reward, render=self.pictures)

    def summary(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """Figures over all episodes, with Student's interval of the mean return; NaN for a single episode."""
        from scipy.stats import sem, t

        returns = np.array([outcome.episode_return for outcome in outcomes])
        half = sem(returns) * t.ppf(0.5 + 0.5 * _CONFIDENCE, len(returns) - 1) if len(returns) > 1 else float('nan')
        told = [outcome.success for outcome in outcomes if outcome.success is not None]
        plan_ms = np.concatenate([outcome.plan_ms for outcome in outcomes])
        plan_ms = plan_ms if len(plan_ms) else np.array([np.nan])
        return {
            'env': self.env_id, 'episodes': len(outcomes), 'mean_return': float(returns.mean()),
            'ci95': [float(returns.mean() - half), float(returns.mean() + half)], 'min_return': float(returns.min()),
            'max_return': float(returns.max()), 'median_return': float(np.median(returns)),
            'mean_steps': float(np.mean([outcome.steps for outcome in outcomes])),
            'success_rate': sum(told) / len(told) if told else None,
            'real_steps_trained': AgentBundle.load(self.model).card.real_steps,
            'plan_ms_p50': float(np.percentile(plan_ms, 50)), 'plan_ms_p99': float(np.percentile(plan_ms, 99)),
            'seed': self.seed, 'model': str(self.model),
        }
