"""Settings of an environment, `config/envs` and its agent's settings together."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mbrl_ros.agents.registry import DEFAULT_AGENT, agent_kind
from mbrl_ros.agents.settings import RunConfig
from mbrl_ros.config import setting
from mbrl_ros.environments.adapter import file_name
from mbrl_ros.resources import config_file, share_directory

if TYPE_CHECKING:
    from typing import Self  # Python 3.10 has none.


@dataclasses.dataclass(frozen=True)
class EnvLoopConfig(RunConfig):
    """How an environment is learned and played.

    `config/envs` has files for some environments, by their names or how these begin; for all others `tabular` if the agent has
    tables, else `default`. The agent has settings for an environment, for those of such a file, for `goals`, all others with
    goals, or for `default`.
    """

    max_episode_steps: int = setting(0, 'Steps after which an episode ends; 0 leaves that to the environment.', low=0)
    demonstrations: int = setting(10, 'Episodes of each expert that --demos names.', low=1)
    explorations: int = setting(1, 'First episodes of random actions, after the demonstrations.', low=0)
    steps_per_round: int = setting(0, 'Control steps from one round of training within an episode to the next; 0 trains only '
                                      'after episodes.', low=0)
    detours: float = setting(0.0, 'Probability that a planned control step of learning begins a detour: one random action, held '
                                  'for one to five steps. Evaluations make none.', low=0.0, high=1.0)
    effector: tuple[str, ...] = setting((), 'Entries of the observation that say where the part of the arm is that moves what is '
                                            'achieved, in the axes and units of the goals, as obs.observation[0]; () if nothing '
                                            'has to be touched, or it is not known.')

    @classmethod
    def of_env(cls, env_id: str, path: Path | None = None, changes: Sequence[str] = (), agent: str | None = None, *,
               has_goals: bool) -> 'Self':
        """Read the settings of an environment and of an agent for it.

        Args:
            env_id: As for `gymnasium.make`.
            path: File to read instead of the one in `config/envs`.
            changes: As for `RunConfig.read`.
            agent: As for `RunConfig.read`.
            has_goals: Whether the environment has goals.

        Raises:
            ConfigError: There is no such file or agent, or a key or value does not fit.
        """
        name = file_name(env_id)
        known = (own.stem for own in (share_directory() / 'config' / 'envs').glob('*.yaml'))
        family = max((stem for stem in known if name.startswith(stem)), key=len, default='')
        sections = (name, family or name, *(('goals',) if has_goals else ()), 'default')
        others = 'tabular' if agent_kind(agent or DEFAULT_AGENT).is_tabular else 'default'
        return cls.read('envs', sections, path or config_file('envs', family or others), changes, agent)
