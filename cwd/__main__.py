"""The command line: `python -m cwd reproduce | data | bench`; `make` calls it."""

import argparse
import sys

from cwd.errors import CwdError


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="python -m cwd", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    run = commands.add_parser("reproduce", help="execute all notebooks under a profile")
    run.add_argument("--profile", default="quick", help="a file in cwd/profiles (default: quick)")
    run.add_argument("--data-root", default="data", help="folder of the datasets (default: data)")
    run.add_argument("--seeds", default="", help="such as 0,1,2; default: the profile's")
    run.add_argument("--device", default="auto", help="auto, cpu or cuda")
    data = commands.add_parser("data", help="get a dataset, or check the one that is there")
    data.add_argument("name", help="scenes, camvid or cityscapes")
    data.add_argument("--data-root", default="data", help="folder of the datasets (default: data)")
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
        )
    elif options.command == "data":
        from cwd import paths
        from cwd.obtain import obtain

        print(obtain(options.name, paths.below_root(options.data_root)))
    else:
        from cwd.bench import bench

        bench()


def main() -> int:
    """Entry point; the exit status is 2 for an error that the user can mend."""
    try:
        run(parser().parse_args())
    except CwdError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from the last checkpoint.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
