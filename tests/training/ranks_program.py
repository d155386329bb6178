"""What each rank does in `test_ranks.py`: `torchrun ranks_program.py JOBS.json` runs one job after the other.

A job is the settings of a run, its folder, whether it goes on (`resume`), and the size that files may have (`disk`).
Each rank writes how its jobs ended.
"""

import contextlib
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from full_disk import files_at_most

from genotok.errors import InputError
from genotok.settings import parse_settings
from genotok.training.config import TrainConfig
from genotok.training.distributed import EndedElsewhere, leave
from genotok.training.loop import Trainer


def run(job):
    """How one job ended on this rank: `done`, or the exception and its sentence."""
    settings = parse_settings(TrainConfig, job["settings"], "the job")
    disk = files_at_most(job["disk"]) if job.get("disk") else contextlib.nullcontext()
    try:
        trainer = Trainer(settings, Path(job["folder"]))
        with disk:
            trainer.run(resume=job.get("resume", False))
    except (InputError, EndedElsewhere) as error:
        return [type(error).__name__, str(error)]
    return ["done", trainer.step]


if __name__ == "__main__":
    jobs = Path(sys.argv[1])
    ends = {job["folder"]: run(job) for job in json.loads(jobs.read_text())}
    jobs.with_name(f"ends.{os.environ['RANK']}.json").write_text(json.dumps(ends))
    leave()
