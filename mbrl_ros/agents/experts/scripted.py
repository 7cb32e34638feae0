"""The scripted expert beside an episode manager: one action for each of its reports in a demonstrated episode."""

from mbrl_ros.agents.experts.demonstrator import Demonstrator
from mbrl_ros.tasks.task import Task
from mbrl_ros.types import DemonstratedAction, EpisodeReport, Phase, RobotState


class ScriptedEpisodes:
    """Takes states and reports as they arrive and answers with the expert's actions.

    An action answers the first state that is not older than the report. In lockstep this is the report's own state, so equal runs
    give equal actions.

    Args:
        task: Task over a table; its space makes observations, and actions of the expert's twists.
        expert: Scripted expert.
    """

    def __init__(self, task: Task, expert: Demonstrator) -> None:
        self._task, self._expert = task, expert
        self._state: RobotState | None = None
        self._report: EpisodeReport | None = None
        self._episode: tuple[int, int, int] | None = None

    def on_state(self, state: RobotState) -> DemonstratedAction | None:
        """Take a state; returns an action if a report waited for this state.

        Raises:
            MeasurementError: The state lacks an entry that the task observes.
        """
        self._state = state
        return self._answer()

    def on_report(self, report: EpisodeReport) -> DemonstratedAction | None:
        """Take a report; returns an action if its state has arrived already; raises like `on_state`."""
        self._report = report if report.phase is Phase.DEMONSTRATED else None
        return self._answer()

    def _answer(self) -> DemonstratedAction | None:
        report, state = self._report, self._state
        if report is None or state is None or state.stamp_ns < report.stamp_ns:
            return None
        self._report = None
        obs = self._task.space.observe(state)
        episode = (report.episode, report.start_ns, report.goal_stamp_ns)
        if episode != self._episode:
            self._episode = episode
            self._expert.reset(report.goal_m, report.episode)
        shown = self._task.space.of_twist(self._expert.action(obs), state)
        return DemonstratedAction(state.stamp_ns, self._task.action_names, shown)
