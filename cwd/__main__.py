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
    run.add_argument("--workers", type=int, default=1, help="train in that many jobs at once first")
    ahead = commands.add_parser("plan", help="what a profile would train, and what that takes")
    ahead.add_argument("--profile", default="quick", help="a file in cwd/profiles")
    ahead.add_argument("--data-root", default="data", help="folder of the datasets (default: data)")
    ahead.add_argument("--seeds", default="", help="such as 0,1,2; default: the profile's")
    ahead.add_argument("--device", default="auto", help="auto, cpu or cuda")
    ahead.add_argument(
        "--tflops", type=float, default=30.0, help="of a GPU that was never measured (default: 30)"
    )
    commands.add_parser("report", help="tables, figures and verdicts from data/results")
    add_train(commands.add_parser("train", help="train what a table of the paper needs"))
    data = commands.add_parser("data", help="get a dataset, or check the one that is there")
    data.add_argument("name", help="scenes, camvid or cityscapes")
    data.add_argument("--data-root", default="data", help="folder of the datasets (default: data)")
    keep = commands.add_parser("record", help="copy a profile's results to data/results")
    keep.add_argument("--profile", default="quick", help="a file in cwd/profiles")
    shown = commands.add_parser("publish", help="put a profile's outputs into the notebooks")
    shown.add_argument("--profile", default="quick", help="a file in cwd/profiles")
    test = commands.add_parser(
        "rehearse", help="a profile's networks on generated full-size images"
    )
    test.add_argument("--profile", default="cityscapes", help="cityscapes, voc or ade20k")
    test.add_argument("--steps", type=int, default=2, help="of each training (default: 2)")
    test.add_argument("--device", default="auto", help="auto, cpu or cuda")
    sent = commands.add_parser("submission", help="the zip that Cityscapes' test server expects")
    sent.add_argument("--profile", default="cityscapes", help="a file in cwd/profiles")
    sent.add_argument("--recipe", default="PI + HO + CW_f", help="empty for the student alone")
    sent.add_argument(
        "--network", default="", help="one of Table 6; the profile's student if empty"
    )
    sent.add_argument("--seed", type=int, default=0)
    sent.add_argument("--split", default="test", help="whose images (default: test)")
    sent.add_argument("--data-root", default="data", help="folder of the datasets (default: data)")
    sent.add_argument("--device", default="auto", help="auto, cpu or cuda")
    commands.add_parser("bench", help="speed, as ratios in one run")
    return top


def add_train(train: argparse.ArgumentParser) -> None:
    """The options of `train`; under torchrun, its processes share every batch."""
    train.add_argument("--profile", default="quick", help="a file in cwd/profiles")
    train.add_argument("--study", default="table2", help="which table (default: table2), or all")
    train.add_argument("--recipe", help="one run instead; empty for the student alone")
    train.add_argument("--seed", type=int, default=0, help="of that run")
    train.add_argument("--network", default="", help="of that run, if not the profile's student")
    train.add_argument("--data-root", default="data", help="folder of the datasets (default: data)")
    train.add_argument("--seeds", default="", help="such as 0,1,2; default: the profile's")
    train.add_argument("--device", default="auto", help="auto, cpu or cuda")
    train.add_argument("--workers", type=int, default=1, help="the most jobs at once (default: 1)")
    train.add_argument("--cluster", default="", help="local or slurm: train in jobs")
    train.add_argument("--gpus-per-run", type=int, default=1, help="that train a run together")
    train.add_argument("--retries", type=int, default=2, help="of a run whose job died")
    train.add_argument("--partition", default="", help="SLURM's")
    train.add_argument("--minutes", type=int, default=1440, help="SLURM's time limit of a job")
    train.add_argument("--parameter", action="append", default=[], help="sbatch's: account=me")


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
            workers=options.workers,
        )
    elif options.command == "plan":
        from cwd.plan import plan

        plan(
            options.profile,
            data_root=options.data_root,
            seeds=options.seeds,
            device=options.device,
            tflops=options.tflops,
        )
    elif options.command == "report":
        from cwd import paths
        from cwd.report import report

        print(f"open {paths.for_people(report())}")
    elif options.command == "train":
        from cwd.training import command

        command(options)
    elif options.command == "data":
        from cwd import paths
        from cwd.obtain import obtain

        print(obtain(options.name, paths.below_root(options.data_root)))
    elif options.command == "record":
        from cwd.record import record

        print(f"{len(record(options.profile))} files recorded")
    elif options.command == "rehearse":
        from cwd.rehearsal import rehearse

        print(rehearse(options.profile, steps=options.steps, device=options.device).to_string())
    elif options.command == "submission":
        submit(options)
    elif options.command == "publish":
        from cwd.publish import publish

        print(f"{len(publish(options.profile))} notebooks written")
    else:
        from cwd.bench import bench

        bench()


def submit(options: argparse.Namespace) -> None:
    """Carry out `submission`."""
    from cwd import paths
    from cwd.submission import submission
    from cwd.workspace import load_profile

    profile = load_profile(options.profile)
    run = profile.run(options.recipe, options.seed, profile.find(options.network))
    written = submission(
        run,
        data_root=paths.below_root(options.data_root),
        split=options.split,
        device=options.device,
        output=paths.BUILD / profile.name / f"{run.name}.zip",
    )
    print(f"upload {paths.for_people(written)}")


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
