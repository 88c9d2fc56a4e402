"""The command line: `python -m cwd VERB`."""

# Every verb imports what it needs, so that --help is instant.
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.system.extras import EXTRAS, missing
from cwd.system.files import FULL, unwritable
from cwd.system.progress import TERMINAL

app = typer.Typer(help=__doc__, add_completion=False, rich_markup_mode=None)
Profile = Annotated[
    str, typer.Option(envvar="CWD_PROFILE", help="one of cwd/profiles, or a file's path")
]
DataRoot = Annotated[str, typer.Option(envvar="CWD_DATA_ROOT", help="folder of the datasets")]
Seeds = Annotated[str, typer.Option(help="such as 0,1,2; the profile's if empty")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda")]
Seed = Annotated[int, typer.Option(min=0, help="of the run")]
Network = Annotated[str, typer.Option(help="of the run; the profile's student if empty")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="jobs at once; one a core, or a GPU, if not given")
]
Student = Annotated[
    str, typer.Argument(help="a run's name or folder, a student's file, or hf://NAME/REPOSITORY")
]
Mode = Annotated[str, typer.Option(help="core, the rest as recorded; all; or fresh")]


def _needs_checkout(verb: str, what: str) -> None:
    if paths.INSTALLED:
        raise CwdError(
            f"`{verb}` needs {what} of a checkout, and this is an installed package: clone the "
            f"repository, and run `make {verb}` or `python -m cwd {verb}` there."
        )


@app.command()
def reproduce(
    profile: Profile = "quick",
    data_root: DataRoot = "data",
    seeds: Seeds = "",
    device: Device = "auto",
    workers: Workers = None,
    only: Annotated[str, typer.Option(help="numbers of notebooks, such as 01,02")] = "",
    mode: Mode = "",
) -> None:
    """Execute all notebooks under a profile."""
    _needs_checkout("reproduce", "the notebooks")
    from cwd.tools.reproduce import reproduce

    given = {"data_root": data_root, "seeds": seeds, "device": device}
    reproduce(profile, only=only, mode=mode, workers=workers, **given)


@app.command()
def first(
    profile: Profile = "quick",
    data_root: DataRoot = "data",
    seeds: Seeds = "",
    device: Device = "auto",
    workers: Workers = None,
    mode: Mode = "",
) -> None:
    """Train the student alone, PI and CW from one seed: a first table beside the paper's."""
    _needs_checkout("first", "the recorded results")
    from cwd.tools.first import first

    place = {"data_root": data_root, "seeds": seeds, "device": device, "mode": mode}
    first(profile, workers=workers, **place)


@app.command()
def plan(
    profile: Profile = "quick",
    data_root: DataRoot = "data",
    seeds: Seeds = "",
    device: Device = "auto",
    tflops: Annotated[
        float | None, typer.Option(help="to assume of a GPU where none is; 30 if not given")
    ] = None,
) -> None:
    """What a profile would train, and what that takes."""
    from cwd.tools.plan import plan

    plan(profile, data_root=data_root, seeds=seeds, device=device, tflops=tflops)


@app.command()
def readme() -> None:
    """Write the numbers of README and docs/results.md from data/results."""
    _needs_checkout("readme", "README.md")
    from cwd.tools.readme import write_readme

    print("wrote", *map(paths.for_people, write_readme()))


@app.command()
def report() -> None:
    """Tables, figures and verdicts from data/results, without training."""
    _needs_checkout("report", "the recorded results")
    from cwd.tools.report import report

    print(f"open {paths.for_people(report())}")


@app.command()
def train(
    profile: Profile = "quick",
    data_root: DataRoot = "data",
    seeds: Seeds = "",
    device: Device = "auto",
    study: Annotated[str, typer.Option(help="which table, or all; table2 if empty")] = "",
    recipe: Annotated[
        str | None, typer.Option(help="one run instead; empty for the student alone")
    ] = None,
    network: Network = "",
    seed: Annotated[int | None, typer.Option(min=0, help="of the run; 0 if not given")] = None,
    workers: Workers = None,
    cluster: Annotated[str, typer.Option(help="local or slurm: train in jobs")] = "",
    gpus_per_run: Annotated[int, typer.Option(min=1, help="that train a run together")] = 1,
    retries: Annotated[
        int | None, typer.Option(min=0, help="of a run whose job died; 2 if not given")
    ] = None,
    partition: Annotated[str, typer.Option(help="SLURM's")] = "",
    minutes: Annotated[
        int | None, typer.Option(min=1, help="SLURM's time limit of a job; a day if not given")
    ] = None,
    parameter: Annotated[list[str] | None, typer.Option(help="sbatch's: account=me")] = None,
    log: Annotated[str, typer.Option(help="tensorboard: curves in each run's folder")] = "",
    losses: Annotated[list[str] | None, typer.Option(help="a file with losses of your own")] = None,
) -> None:
    """Train what a table needs, here or in jobs; under torchrun all share every batch."""
    from cwd.experiments.workspace import open_profile
    from cwd.recipes import load_losses
    from cwd.tools.train import chosen_runs, train_runs

    load_losses(*losses or ())
    workspace = replace(open_profile(profile, data_root, seeds, device), log=log)
    one = {"recipe": recipe, "network": network, "seed": seed}
    runs = chosen_runs(workspace, study_name=study, seeds=seeds, **one)
    jobs = {"workers": workers, "cluster": cluster, "gpus_per_run": gpus_per_run,
            "retries": retries, "partition": partition, "minutes": minutes}  # fmt: skip
    train_runs(workspace, runs, parameter=parameter or (), **jobs)


@app.command()
def data(
    name: Annotated[
        str,
        typer.Argument(
            help="scenes, crops, camvid, cityscapes, voc, ade20k, coco, imagenet or folder (yours)"
        ),
    ],
    data_root: DataRoot = "data",
) -> None:
    """Get a dataset, or check the one that is there."""
    from cwd.data.download import obtain

    print(obtain(name, paths.below_root(data_root)))


@app.command()
def record(profile: Profile = "quick") -> None:
    """Copy a profile's results to data/results."""
    _needs_checkout("record", "the folder data/results")
    from cwd.tools.record import record

    print(f"{len(record(profile))} files recorded")


@app.command()
def publish(profile: Profile = "quick") -> None:
    """Put a profile's outputs into the committed notebooks."""
    _needs_checkout("publish", "the notebooks")
    from cwd.tools.publish import publish

    print(f"{len(publish(profile))} notebooks written")


@app.command()
def rehearse(
    profile: Profile = "quick",
    device: Device = "auto",
    steps: Annotated[int, typer.Option(min=1, help="of each training")] = 2,
) -> None:
    """A profile's networks for a few steps on generated full-size images."""
    from cwd.tools.rehearse import rehearse

    print(rehearse(profile, steps=steps, device=device).to_string())


@app.command()
def submission(
    profile: Profile = "quick",
    data_root: DataRoot = "data",
    device: Device = "auto",
    recipe: Annotated[str, typer.Option(help="empty for the student alone")] = "PI + HO + CW_f",
    network: Network = "",
    seed: Seed = 0,
    split: Annotated[str, typer.Option(help="whose images")] = "test",
) -> None:
    """The zip that Cityscapes' test server expects."""
    from cwd.experiments.profile import load_profile
    from cwd.tools.submission import check_submittable, submission

    chosen = load_profile(profile)
    student = chosen.find(network)
    check_submittable(student)
    run = chosen.run(recipe, seed, student)
    output = paths.BUILD / chosen.name / f"{run.name}.zip"
    root = paths.below_root(data_root)
    print("upload", paths.for_people(submission(run, root, split, device, output)))


@app.command()
def predict(
    source: Student,
    images: Annotated[list[str], typer.Argument(help="files, or folders of them")],
    out: Annotated[Path, typer.Option(help="folder for what is written")],
    device: Device = "auto",
) -> None:
    """The class of every pixel of images: label images, and overlays."""
    from cwd.tools.predict import predict_images

    print(f"{predict_images(source, images, out, device)} images labelled in {out}")


@app.command()
def export(
    source: Student,
    onnx: Annotated[bool, typer.Option("--onnx", help="for onnxruntime")] = False,
    torchscript: Annotated[bool, typer.Option("--torchscript", help="for torch.jit.load")] = False,
    out: Annotated[Path | None, typer.Option(help="folder; build/export/RUN if not given")] = None,
    size: Annotated[
        tuple[int, int] | None, typer.Option(help="height and width that it takes")
    ] = None,
    hub: Annotated[str, typer.Option(help="NAME/REPOSITORY on the Hugging Face hub")] = "",
) -> None:
    """A student's folder to take home: its file, a model card, and other formats."""
    from cwd.tools.export import export

    formats = [*["onnx"] * onnx, *["torchscript"] * torchscript]
    print("wrote", paths.for_people(export(source, formats, out, size, hub)))


@app.command()
def slides(
    modules: Annotated[str, typer.Option(help="folder of npm packages beside the page")] = "",
) -> None:
    """A talk of twelve slides, from the notebooks' tagged cells."""
    _needs_checkout("slides", "the notebooks")
    from cwd.tools.slides import write_slides

    print("open", paths.for_people(write_slides(modules)))


@app.command()
def bench() -> None:
    """Speed of loss, training step and loader, as ratios in one run."""
    from cwd.tools.bench import bench

    bench()


def main() -> int:
    """Entry point.

    Returns:
        The exit status: 2 for an error that the user can mend, 130 for an interrupt.
    """
    try:
        status = typer.main.get_command(app).main(prog_name="python -m cwd", standalone_mode=False)
    except CwdError as error:
        status, said = 2, f"error: {error}"
    except OSError as error:
        if error.errno not in FULL:
            raise
        status, said = 2, f"error: {unwritable(error.filename or 'a file', error)}"
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        status, said = 2, f"error: {missing(error.name)}"
    except Exception as error:
        if not hasattr(error, "format_message"):  # what typer raises where a command is wrong
            raise
        status, said = 2, f"error: {error.format_message().rstrip('.')}: see python -m cwd --help."
    else:
        said = "stopped; the same command goes on from the last checkpoint."
    if status:
        TERMINAL.clear()
        print(said, file=sys.stderr)
    return status or 0


if __name__ == "__main__":
    sys.exit(main())
