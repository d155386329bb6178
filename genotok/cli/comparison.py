"""Verbs that compare tokenizers on equal work."""

from pathlib import Path
from typing import Annotated, Any

import typer

from genotok.cli.app import compare_app
from genotok.errors import InputError

Plan = Annotated[Path, typer.Argument(metavar="PLAN", help="JSON file of `genotok compare plan`.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="JSON file to write.")]


@compare_app.command("plan")
def plan_comparison(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG.yaml", help="Settings, see docs/comparison.md; `-` reads stdin.")
    ],
    output: Output,
) -> None:
    """Size the model of every arm so that training costs the same operations a base.

    Example: `genotok compare plan compare.yaml -o plan.json`
    """
    from genotok.comparison.plan import make_plan
    from genotok.comparison.settings import ComparisonSettings
    from genotok.report.json_files import write_json
    from genotok.settings import parse_settings, read_mapping

    source = "standard input" if config == "-" else config
    plan = make_plan(parse_settings(ComparisonSettings, read_mapping(config), source))
    write_json(plan, output)
    for arm in plan["arms"].values():
        print(
            f"{arm['title']}: {arm['parameters']:,} parameters, {arm['flops_per_base']:.4g} operations a base "
            f"({100 * arm['deviation']:+.2f} %), learning rate {arm['learning_rate']:.3g}"
        )


@compare_app.command("run")
def run_one(
    plan: Plan,
    arm: Annotated[str, typer.Option(help="Its name in the plan.")],
    seed: Annotated[int, typer.Option(min=0, help="One of the plan's.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")],
) -> None:
    """Train one arm with one seed and measure it; what was cut short goes on.

    Example: `genotok compare run plan.json --arm hnet_1stage --seed 1 -o runs/hnet_1stage-1`
    """
    import sys

    from genotok.comparison.runs import run_arm
    from genotok.training.interruption import Terminated

    values = _read(plan)
    if arm not in values["arms"] or seed not in values["settings"]["seeds"]:
        raise InputError(f"{plan}: has no arm {arm!r} with seed {seed}")
    try:
        found = run_arm(values, arm, seed, output)
    except Terminated as stop:
        print(f"genotok: {stop}", file=sys.stderr)
        raise typer.Exit(143) from stop
    bits = ", ".join(f"{genome} {one['value']:.4f}" for genome, one in found["bits_per_base"].items())
    print(f"{arm}, seed {seed}: {bits} bits per base; {found['flops_per_base']:.4g} operations a base")


@compare_app.command("baselines")
def measure_words(plan: Plan, output: Output) -> None:
    """What counts of words reach on the same splits.

    Example: `genotok compare baselines plan.json -o baselines.json`
    """
    from genotok.comparison.baselines import measure_baselines
    from genotok.report.json_files import write_json

    write_json(measure_baselines(_read(plan)), output)


@compare_app.command("report")
def report_comparison_of_arms(
    plan: Annotated[
        Path,
        typer.Argument(
            metavar="PLAN",
            help="JSON file of `genotok compare plan`, or alone that of benchmarks.tokenizers.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the figure and its data.")],
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="[MEASURES]...", help="`measures.json` of the runs.")
    ] = None,
    baselines: Annotated[Path | None, typer.Option(help="JSON file of `genotok compare baselines`.")] = None,
) -> None:
    """One table, one figure, and what they support.

    Example: `genotok compare report plan.json runs/*/measures.json --baselines baselines.json -o figures/comparison`

    Example: `genotok compare report benchmarks/results/tokenizers_h200.json -o figures/comparison`
    """
    from genotok.comparison.report import report_comparison
    from genotok.comparison.summary import with_whole_seeds
    from genotok.report.json_files import read_json

    if runs:
        known = None if baselines is None else read_json(baselines)
        found = [read_json(path) for path in runs]
        for path, run in zip(runs, found, strict=True):
            if not {"arm", "seed", "bits_per_base", "deviation"} <= run.keys():
                raise InputError(
                    f"{path}: holds no measures; name the measures.json of `genotok compare run`"
                )
        report_comparison(_read(plan), found, output, known)
        return
    whole = read_json(plan)
    if not {"plan", "runs", "baselines", "machine"} <= whole.keys():
        raise InputError(
            f"{plan}: is no result of benchmarks.tokenizers; name the measures.json of the runs, too"
        )
    if whole["plan"] is None:
        raise InputError(
            f"{plan}: holds pilots alone; go on with `python -m benchmarks.tokenizers --go-on {plan}`"
        )
    chosen, kept = with_whole_seeds(whole["plan"], whole["runs"])
    report_comparison(chosen, kept, output, whole["baselines"], whole["machine"])


def _read(path: Path) -> dict[str, Any]:
    from genotok.report.json_files import read_json

    plan = read_json(path)
    if not {"settings", "window", "bases", "arms"} <= plan.keys():
        raise InputError(f"{path}: is no plan; make one with `genotok compare plan`")
    return plan
