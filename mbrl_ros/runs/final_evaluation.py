"""The evaluation of the policy at the end of a run, kept in a file so that no model is evaluated twice."""

import dataclasses
import hashlib
import json
from pathlib import Path

from mbrl_ros.runs.evaluation import evaluate_here
from mbrl_ros.runs.evaluation_request import EvaluationRequest
from mbrl_ros.runs.world import WorldMaker


@dataclasses.dataclass(frozen=True)
class FinalEvaluation:
    """How often the policy at the end of a run succeeds, and how long a decision takes it.

    Attributes:
        success_rate: Share of the episodes that succeeded.
        episodes: Episodes played.
        action_ms_p50: Median time of a decision over all episodes; NaN if not measured.
        action_ms_p99: 99th percentile.
        model_sha256: Of the file of the model; empty if there is none.
    """

    success_rate: float
    episodes: int
    action_ms_p50: float = float('nan')
    action_ms_p99: float = float('nan')
    model_sha256: str = ''


def final_evaluation(folder: Path, kept: Path, episodes: int, make_world: WorldMaker) -> FinalEvaluation | None:
    """Evaluate the model in the folder of a run, or read how it was evaluated.

    The episodes are those that `mbrl-ros evaluate` plays. This process plays them, so that no other one makes decisions slow.

    Args:
        folder: Folder of the run.
        kept: File of the evaluation, which is made if need be.
        episodes: Episodes to play; 0 for no evaluation.
        make_world: Makes the world of a task.

    Returns:
        None without episodes, or if the run has no model yet.

    Raises:
        ModelError: The model cannot be read.
        ConfigError: The run's settings cannot be used.
    """
    model = folder / 'model.safetensors'
    if not episodes or not model.exists():
        return None
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    if (known := _read(kept)) and (known.model_sha256, known.episodes) == (digest, episodes):
        return known
    evaluation = EvaluationRequest(model).resolve(make_world)
    figures = evaluation.summary(evaluate_here(evaluation, episodes))
    result = FinalEvaluation(figures['success_rate'], episodes, figures['plan_ms_p50'], figures['plan_ms_p99'], digest)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(dataclasses.asdict(result)) + '\n', encoding='utf-8')
    return result


def _read(path: Path) -> FinalEvaluation | None:
    """What a file of an evaluation says; None if there is none that can be read, so that the model is evaluated again."""
    try:
        return FinalEvaluation(**json.loads(path.read_text(encoding='utf-8')))
    except (OSError, ValueError, TypeError):
        return None
