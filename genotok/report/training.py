"""`genotok report training`: how a run went."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from genotok.errors import InputError
from genotok.report.json_files import read_json, write_json
from genotok.report.names import TRAINING_CURVES, TRAINING_FIGURE, TRAINING_SUMMARY
from genotok.report.style import BLACK, GREY, MODEL, SERIES, SKY, WIDTH, save_figure, styled
from genotok.training.monitor import ALARM, METRICS_NAME, read_metrics

HIGHEST_BITS = 2.2  # a model without knowledge needs 2; the first steps are often far above
MEAN_OVER = 20  # the running mean covers this part of the records


def report_training(run_folder: Path, out_folder: Path) -> None:
    """Draw the training curves of a run.

    Writes `training.svg`, `training.tsv` (one row a record of `metrics.jsonl`) and `training.json` (the last
    values, what alarms there were, and the model's configuration) into `out_folder`.

    Args:
        run_folder: of `genotok train`; holds `metrics.jsonl` and `config.json`.
        out_folder: made where it is missing.

    Raises:
        InputError: a file is missing or cannot be read.
    """
    metrics = run_folder / METRICS_NAME
    figure, data = training_curves(metrics)
    configuration = read_json(run_folder / "config.json")
    save_figure(figure, data, out_folder, TRAINING_FIGURE)
    summary = {"model": configuration, "alarms": training_alarms(metrics), **_last_values(data)}
    write_json(summary, out_folder / TRAINING_SUMMARY)


def training_table(metrics_jsonl: Path) -> pd.DataFrame:
    """The records of a run: `step`, `split`, one of `TRAINING_CURVES` and the rest; lists become a column a stage.

    Alarms are left out.

    Raises:
        InputError: the file is missing, empty or no `metrics.jsonl`.
    """
    records = [_flat(record) for record in _records(metrics_jsonl) if record.get("split") != ALARM]
    table = pd.DataFrame(records)
    missing = {"step", "split", _curve_key(table)} - set(table.columns)
    if missing:
        raise InputError(f"{metrics_jsonl}: no record of it has {min(missing)!r}; has the run taken a step?")
    return table


def training_alarms(metrics_jsonl: Path) -> list[dict[str, Any]]:
    """The alarms of a run: `step`, `kind` and `message`."""
    return [
        {key: record[key] for key in ("step", "kind", "message")}
        for record in _records(metrics_jsonl)
        if record.get("split") == ALARM
    ]


def _records(metrics_jsonl: Path) -> list[dict[str, Any]]:
    try:
        records = read_metrics(metrics_jsonl)
    except OSError as error:
        raise InputError(f"{metrics_jsonl}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{metrics_jsonl}: holds a line that is no JSON object: {error}") from error
    if not all(isinstance(record, dict) for record in records):
        raise InputError(f"{metrics_jsonl}: holds a line that is no JSON object")
    return records


def _curve_key(data: pd.DataFrame) -> str:
    return next((key for key in TRAINING_CURVES if key in data), "bits_per_base")


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    flat = {}
    for key, value in record.items():
        stages = value if isinstance(value, list) else [value]
        names = [f"{key}_stage{stage}" for stage in range(len(stages))] if value is stages else [key]
        flat |= dict(zip(names, stages, strict=True))
    return flat


def _last_values(data: pd.DataFrame) -> dict[str, Any]:
    summary: dict[str, Any] = {"steps": int(data["step"].max())}
    key = _curve_key(data)
    for split, records in _of_first_data_set(data).groupby("split"):
        summary[split] = {key: float(records[key].iloc[-1])}
    return summary


def _of_first_data_set(data: pd.DataFrame) -> pd.DataFrame:
    """Of a run of several data sets the records of the first one that has the curve; else all."""
    if "data" not in data:
        return data
    having = data[data[_curve_key(data)].notna()]
    return having[having["data"] == having["data"].iloc[0]]


@styled
def training_curves(metrics_jsonl: Path) -> tuple[Figure, pd.DataFrame]:
    """Bits per base, or the main number of another task, over the steps; of several data sets, of one.

    Beside it are the chunk fraction and the boundary entropy of each stage, the ratio loss and the learning rate.
    Alarms are dotted lines.
    """
    data = training_table(metrics_jsonl)
    shown = _of_first_data_set(data)
    train, valid = shown[shown["split"] == "train"], shown[shown["split"] == "valid"]
    side = [panel for panel in _SIDE_PANELS if any(_columns(train, panel))]
    figure = Figure(figsize=(WIDTH, max(3.6, 1.15 * len(side))), layout="constrained")
    grid = figure.add_gridspec(max(len(side), 1), 2, width_ratios=[1.5, 1])
    bits = figure.add_subplot(grid[:, 0])
    _draw_curve(bits, train, valid, _curve_key(data), training_alarms(metrics_jsonl))
    for row, panel in enumerate(side):
        axes = figure.add_subplot(grid[row, 1], sharex=bits)
        _draw_side_panel(axes, train, panel)
        axes.tick_params(labelbottom=row == len(side) - 1)
    for axes in (bits, figure.axes[-1]):
        axes.set_xlabel("Step")
    return figure, data


def _draw_curve(
    axes: Axes, train: pd.DataFrame, valid: pd.DataFrame, key: str, alarms: list[dict[str, Any]]
) -> None:
    over, in_bits = len(train) // MEAN_OVER, key == "bits_per_base"
    axes.plot(train["step"], train[key], color=SKY, linewidth=1, label="training batches")
    if over > 1:
        mean = train[key].rolling(over, center=True, min_periods=1).mean()
        axes.plot(train["step"], mean, color=SERIES[0], linewidth=1.6, label=f"mean of {over} records")
    if len(valid):
        marks = {"color": MODEL, "marker": "o", "markersize": 4, "linewidth": 1.2}
        label = "validation contigs" if in_bits else "validation"
        axes.plot(valid["step"], valid[key], label=label, zorder=3, **marks)
    if in_bits:
        axes.axhline(2, color=GREY, linestyle="--", linewidth=0.9, label="four equally likely bases")
        if not len(train) or train[key].median() < HIGHEST_BITS:
            _cut_off(axes, max(records[key].max() for records in (train, valid) if len(records)))
    for alarm in alarms:
        label = alarm["kind"].replace("_", " ")
        axes.axvline(alarm["step"], color=BLACK, linestyle=":", linewidth=0.9, label=label)
    axes.set_title(TRAINING_CURVES[key])
    axes.grid(axis="y")
    axes.legend()


def _cut_off(axes: Axes, highest: float) -> None:
    if highest > HIGHEST_BITS:
        axes.set_ylim(top=HIGHEST_BITS)
        note = {"size": 8, "weight": "normal", "color": GREY, "loc": "right"}
        axes.set_title(f"up to {highest:.2f}, cut off", **note)


_SIDE_PANELS = {
    "chunk_fraction": "Chunks per position",
    "boundary_entropy": "Boundary entropy (bits)",
    "ratio_loss": "Ratio loss",
    "learning_rate": "Learning rate",
}


def _columns(train: pd.DataFrame, panel: str) -> list[str]:
    return [name for name in train if name.startswith(panel) and train[name].fillna(0).any()]


def _draw_side_panel(axes: Axes, train: pd.DataFrame, panel: str) -> None:
    columns = _columns(train, panel)
    for stage, column in enumerate(columns):
        colour = SERIES[stage % len(SERIES)] if column != panel else BLACK
        axes.plot(train["step"], train[column], color=colour, linewidth=1.2, label=f"stage {stage}")
    axes.set_title(_SIDE_PANELS[panel])
    axes.grid(axis="y")
    axes.set_ylim(bottom=0)
    if len(columns) > 1:
        axes.legend()
