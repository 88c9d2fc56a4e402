"""The command line: `python -m cwd COMMAND`."""

import argparse
import sys

from cwd.errors import CwdError
from cwd.progress import TERMINAL


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="python -m cwd", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    run = commands.add_parser("reproduce", help="execute all notebooks under a profile")
    run.add_argument("--profile", default="quick", help="a file in cwd/profiles (default: quick)")
    run.add_argument("--data-root", default="data", help="folder of the datasets (default: data)")
    run.add_argument("--seeds", default="", help="such as 0,1,2; default: the profile's")
    run.add_argument("--device", default="auto", help="auto, cpu or cuda")
    run.add_argument("--only", default="", help="numbers of notebooks, such as 01,02")
    commands.add_parser("report", help="tables, figures and verdicts from data/results")
    train = commands.add_parser("train", help="train what a table of the paper needs")
    train.add_argument("--profile", default="quick", help="a file in cwd/profiles")
    train.add_argument("--study", default="table2", help="which table (default: table2)")
    data = commands.add_parser("data", help="get a dataset, or check the one that is there")
    data.add_argument("name", help="scenes, camvid or cityscapes")
    data.add_argument("--data-root", default="data", help="folder of the datasets (default: data)")
    keep = commands.add_parser("record", help="copy a profile's results to data/results")
    keep.add_argument("--profile", default="quick", help="a file in cwd/profiles")
    shown = commands.add_parser("publish", help="put a profile's outputs into the notebooks")
    shown.add_argument("--profile", default="quick", help="a file in cwd/profiles")
    commands.add_parser("bench", help="speed, as ratios in one run")
    return top


def run(options: argparse.Namespace) -> None:
    """Carry out one command; what it needs is imported here, so that --help is instant."""
    if options.command == "reproduce":
        from cwd.reproduce import reproduce

        reproduce(
            options.profile,
            data_root=options.data_root,
            seeds=options.seeds,
            device=options.device,
            only=options.only,
        )
    elif options.command == "report":
        from cwd import paths
        from cwd.report import report

        print(f"open {paths.for_people(report())}")
    elif options.command == "train":
        from cwd.experiments import study

        study(options.study, options.profile).train()
    elif options.command == "data":
        from cwd import paths
        from cwd.obtain import obtain

        print(obtain(options.name, paths.below_root(options.data_root)))
    elif options.command == "record":
        from cwd.record import record

        print(f"{len(record(options.profile))} files recorded")
    elif options.command == "publish":
        from cwd.publish import publish

        print(f"{len(publish(options.profile))} notebooks written")
    else:
        from cwd.bench import bench

        bench()


def main() -> int:
    """Entry point; the exit status is 2 for an error that the user can mend."""
    try:
        run(parser().parse_args())
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
