"""`mbrl-ros bench`: computing time and punctuality of the stack, measured on this machine."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Measure the stack on this machine."""


@app.command()
def loop(
    seconds: Annotated[float, typer.Option(min=5.0, help='How long to measure, after the warm-up.')] = 60.0,
    warmup: Annotated[float, typer.Option(min=0.0, help='Seconds to leave out at the start.')] = 20.0,
    rate_hz: Annotated[float, typer.Option(min=1.0, help='Rate of the controller.')] = 20.0,
    robot: Annotated[str, typer.Option(help='Robot profile.')] = 'panda',
    agent: Annotated[str, typer.Option(help='Agent that learns and acts, a name or module:KIND.')] = 'pets',
    model: Annotated[Path | None, typer.Option(help='Model of that agent, learned at that rate, to begin with.')] = None,
    seed: Annotated[int, typer.Option(min=0, help='Seed of the run.')] = 0,
    json_path: Annotated[Path | None, typer.Option('--json', help='Write the figures to this file as JSON.')] = None,
) -> None:
    """Run the whole stack against the wall clock, training going on, and print how punctual it was."""
    from mbrl_ros.benchmarks.loop import run_loop_benchmark

    raise typer.Exit(run_loop_benchmark(seconds=seconds, warmup_s=warmup, rate_hz=rate_hz, robot=robot, agent=agent, model=model,
                                        seed=seed, json_path=json_path))


@app.command()
def planner(
    horizon: Annotated[list[int], typer.Option(min=1, help='Horizon of the yardstick; may be given several times.')] = (15, 30),
    precision: Annotated[list[str], typer.Option(help='Precision of the yardstick: auto, float32, bfloat16, float16, tf32; may '
                                                      'be given several times.')] = ('auto', 'float32'),
    optimiser: Annotated[list[str], typer.Option(help='Optimiser of the yardstick: cem, icem, mppi, random_shooting; may be '
                                                      'given several times.')] = ('cem', 'icem'),
    population: Annotated[int, typer.Option(min=2, help='Candidates an iteration.')] = 350,
    particles: Annotated[int, typer.Option(min=1, help='Rollouts of each candidate.')] = 20,
    iterations: Annotated[int, typer.Option(min=1, help='Iterations of a plan.')] = 5,
    everyday: Annotated[bool, typer.Option(help='Measure the controller\'s default setting too.')] = True,
    threads: Annotated[int, typer.Option(min=0, help='Threads to plan with; 0 for one a core.')] = 0,
    calls: Annotated[int, typer.Option(min=1, help='Timed plans of each planner.')] = 9,
    count_to: Annotated[int, typer.Option(min=0, help='Plan that the first one after configuring is compared with, in a fresh '
                                                      'process; 0 leaves that out.')] = 100,
    memory: Annotated[bool, typer.Option(help='Measure the memory of a plan.')] = True,
    curves: Annotated[Path | None, typer.Option(help='Measure how cost grows with population, particles, horizon and '
                                                     'iterations, and draw it into this PNG.')] = None,
    busy: Annotated[bool, typer.Option(help='Measure beside a trainer that works on all cores, too.')] = False,
    json_path: Annotated[Path | None, typer.Option('--json', help='Write the figures to this file as JSON.')] = None,
) -> None:
    """Time plans of PETS' setting and of the everyday one, beside the bare matrix products of the same work."""
    import os

    from mbrl_ros.benchmarks.planner import PlannerBenchmark, run_planner_benchmark

    benchmark = PlannerBenchmark(horizon, precision, optimiser, population, particles, iterations, everyday,
                                 threads or os.cpu_count() or 1, calls, count_to, memory)
    run_planner_benchmark(benchmark, curves=curves, busy=busy, json_path=json_path)


@app.command()
def budget(
    goals: Annotated[int, typer.Option(min=1, help='Goals of each seed; every setting is given all of them.')] = 20,
    seed: Annotated[list[int], typer.Option(min=0, help='Of a model and its goals; may be given several times.')] = (0, 1, 2),
    episodes: Annotated[int, typer.Option(min=1, help='Episodes that a model is learned from.')] = 12,
    model: Annotated[Path | None, typer.Option(help='Plan with the model of this file instead of learning one.')] = None,
    robot: Annotated[str, typer.Option(help='Robot profile.')] = 'panda',
    precision: Annotated[str, typer.Option(help='Precision of predictions: auto, float32, bfloat16, float16, tf32.')] = 'auto',
    threads: Annotated[int, typer.Option(min=1, help='Threads to plan with; the controller node has one.')] = 1,
    quick: Annotated[bool, typer.Option(help='Measure few settings.')] = False,
    json_path: Annotated[Path | None, typer.Option('--json', help='Write the figures to this file as JSON.')] = None,
    plot: Annotated[Path | None, typer.Option(help='Draw success against budget into this PNG.')] = None,
) -> None:
    """Find how much planning the reach task needs: success in simulation against the budget of a plan."""
    from mbrl_ros.benchmarks.budget import BudgetBenchmark, BudgetGrid, run_budget_benchmark

    benchmark = BudgetBenchmark(robot, seed, goals, episodes, model, precision, threads,
                                BudgetGrid.quick() if quick else BudgetGrid())
    run_budget_benchmark(benchmark, json_path=json_path, plot_path=plot)


@app.command()
def tabular(
    study: Annotated[list[str] | None, typer.Option(help='What to learn: maze, book, cliff, taxi, grid, blocking, shortcut; may '
                                                         'be given several times, all by default.')] = None,
    seeds: Annotated[int, typer.Option(min=1, help='Number of seeds.')] = 10,
    first_seed: Annotated[int, typer.Option(min=0, help='The first of them.')] = 0,
    json_path: Annotated[Path | None, typer.Option('--json', help='Write the figures to this file as JSON.')] = None,
) -> None:
    """Learn small discrete environments with Dyna-Q and Dyna-Q+, and look at the greedy ways after so many episodes."""
    import torch

    from mbrl_ros.benchmarks.tabular import run_tabular_benchmark

    torch.set_num_threads(1)
    run_tabular_benchmark(study or (), seeds=range(first_seed, first_seed + seeds), json_path=json_path)


@app.command()
def solver(
    goals: Annotated[int, typer.Option(min=1, help='Goals among the boxes.')] = 100,
    cost_goals: Annotated[int, typer.Option(min=2, help='Goals that learned and hand-set costs are compared at.')] = 20,
    seed: Annotated[int, typer.Option(min=0, help='Seed of goals and of learning.')] = 0,
    episodes: Annotated[int, typer.Option(min=3, help='Episodes that model and cost are learned from.')] = 12,
    model: Annotated[Path | None, typer.Option(help='Use the model and cost of this file instead of learning them.')] = None,
    robot: Annotated[str, typer.Option(help='Robot profile; it needs capsules.')] = 'panda',
    json_path: Annotated[Path | None, typer.Option('--json', help='Write the figures to this file as JSON.')] = None,
) -> None:
    """Reach among three boxes with the agent solver_mpc, on one thread, and compare its learned cost with hand-set ones."""
    from mbrl_ros.benchmarks.solver import SolverBenchmark, run_solver_benchmark

    run_solver_benchmark(SolverBenchmark(goals, cost_goals, seed, episodes, model, robot), json_path=json_path)
