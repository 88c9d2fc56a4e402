"""The command line: `python -m cwd COMMAND`."""

import argparse
import sys
from collections.abc import Callable
from typing import Any

from cwd.system.errors import CwdError
from cwd.system.progress import TERMINAL

# options that several commands have
SHARED: dict[str, dict[str, Any]] = {
    "--profile": {"default": "quick", "help": "a file in cwd/profiles (default: %(default)s)"},
    "--data-root": {"default": "data", "help": "folder of the datasets (default: data)"},
    "--seeds": {"default": "", "help": "such as 0,1,2; default: the profile's"},
    "--device": {"default": "auto", "help": "auto, cpu or cuda"},
    "--seed": {"type": int, "default": 0, "help": "of the run (default: 0)"},
    "--network": {"default": "", "help": "of the run, one of the profile's; its student if empty"},
    "--workers": {"type": int, "default": 1, "help": "train in that many jobs at once"},
}


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="python -m cwd", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)

    def command(call: Callable[..., None], about: str, *shared: str) -> argparse.ArgumentParser:
        new = commands.add_parser(call.__name__, help=about)
        for option in shared:
            new.add_argument(option, **SHARED[option])
        new.set_defaults(call=call)
        return new

    where = ("--profile", "--data-root", "--seeds", "--device")
    run = command(reproduce, "execute all notebooks under a profile", *where, "--workers")
    run.add_argument("--only", default="", help="numbers of notebooks, such as 01,02")
    ahead = command(plan, "what a profile would train, and what that takes", *where)
    ahead.add_argument(
        "--tflops", type=float, default=30.0, help="of a GPU that was never measured (default: 30)"
    )
    command(report, "tables, figures and verdicts from data/results")
    add_train(
        command(
            train, "train what a table needs", *where, "--seed", "--network", "--workers"
        )
    )  # fmt: skip
    found = command(data, "get a dataset, or check the one that is there", "--data-root")
    found.add_argument(
        "name", help="scenes, crops, camvid, cityscapes, voc, ade20k, coco or imagenet"
    )
    command(record, "copy a profile's results to data/results", "--profile")
    command(publish, "put a profile's outputs into the notebooks", "--profile")
    real = command(rehearse, "a profile on generated full-size images", "--profile", "--device")
    real.add_argument("--steps", type=int, default=2, help="of each training (default: 2)")
    one = ("--profile", "--data-root", "--device", "--seed", "--network")
    sent = command(submission, "the zip that Cityscapes' test server expects", *one)
    sent.add_argument("--recipe", default="PI + HO + CW_f", help="empty for the student alone")
    sent.add_argument("--split", default="test", help="whose images (default: test)")
    command(bench, "speed, as ratios in one run")
    return top


def add_train(train: argparse.ArgumentParser) -> None:
    """The options that only `train` has; under torchrun, its processes share every batch."""
    train.add_argument("--study", default="table2", help="which table (default: table2), or all")
    train.add_argument("--recipe", help="one run instead; empty for the student alone")
    train.add_argument("--cluster", default="", help="local or slurm: train in jobs")
    train.add_argument("--gpus-per-run", type=int, default=1, help="that train a run together")
    train.add_argument("--retries", type=int, default=2, help="of a run whose job died")
    train.add_argument("--partition", default="", help="SLURM's")
    train.add_argument("--minutes", type=int, default=1440, help="SLURM's time limit of a job")
    train.add_argument("--parameter", action="append", default=[], help="sbatch's: account=me")


# Each command imports what it needs, so that --help is instant.


def reproduce(profile: str, **options: Any) -> None:
    """Execute the notebooks."""
    from cwd.tools.reproduce import reproduce

    reproduce(profile, **options)


def plan(profile: str, **options: Any) -> None:
    """Say what a profile takes."""
    from cwd.tools.plan import plan

    plan(profile, **options)


def report() -> None:
    """Lay out what is recorded."""
    from cwd.system import paths
    from cwd.tools.report import report

    print(f"open {paths.for_people(report())}")


def train(**options: Any) -> None:
    """Train without notebooks."""
    from cwd.tools.train import command

    command(argparse.Namespace(**options))


def data(name: str, data_root: str) -> None:
    """Get or check a dataset."""
    from cwd.data.download import obtain
    from cwd.system import paths

    print(obtain(name, paths.below_root(data_root)))


def record(profile: str) -> None:
    """Keep a profile's results."""
    from cwd.experiments.records import record

    print(f"{len(record(profile))} files recorded")


def publish(profile: str) -> None:
    """Put outputs into the committed notebooks."""
    from cwd.tools.publish import publish

    print(f"{len(publish(profile))} notebooks written")


def rehearse(profile: str, **options: Any) -> None:
    """Try a profile's networks at full size."""
    from cwd.tools.rehearse import rehearse

    print(rehearse(profile, **options).to_string())


def submission(profile: str, recipe: str, seed: int, network: str, **options: Any) -> None:
    """Write a zip for the Cityscapes server."""
    from cwd.experiments.profile import load_profile
    from cwd.system import paths
    from cwd.tools.submission import check_submittable, submission

    chosen = load_profile(profile)
    student = chosen.find(network)
    check_submittable(student)
    run = chosen.run(recipe, seed, student)
    options["data_root"] = paths.below_root(options["data_root"])
    output = paths.BUILD / chosen.name / f"{run.name}.zip"
    print(f"upload {paths.for_people(submission(run, output=output, **options))}")


def bench() -> None:
    """Measure speed."""
    from cwd.tools.bench import bench

    bench()


def main() -> int:
    """Entry point; the exit status is 2 for an error that the user can mend."""
    options = vars(parser().parse_args())
    del options["command"]
    call = options.pop("call")
    try:
        call(**options)
    except CwdError as error:
        TERMINAL.clear()
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        TERMINAL.clear()
        print("stopped; the same command goes on from the last checkpoint.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
