"""The command `mlapi`."""

import json
import logging
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobs.schema import TOP_CLASSES
from mlapi import terminal
from mlapi.terminal import echo, echo_json, echo_lines
from runtime.errors import QueueUnavailable, ServiceError, SetupError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from api.access.keys import KeyFile
    from jobs.redis.loads import RedisLoads
    from jobs.redis.queue import RedisJobQueue
    from mlapi.operating.reports import KeptReport

_RESULTS = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)

# Each command imports what it runs only when it is called: a container holds one service, not the other.


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="flask-ml-api")
def cli() -> None:
    """Serve your own CNN: an HTTP API and page, a Redis queue, and model workers that batch."""


@cli.command()
def serve() -> None:
    """Run everything on this machine: Redis, one model worker per core, and the API.

    Settings come from the environment: PORT, INSTANCES, MODEL and those of docs/settings.md.
    """
    from mlapi.service.serve import serve

    serve()


@cli.command()
def api() -> None:
    """Run the API alone; REDIS_URL says where the queue is."""
    from api.server.main import main

    main()


@cli.command()
def worker() -> None:
    """Run one model worker alone; REDIS_URL says where the queue is."""
    from model.ml_service import main

    main()


@cli.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--out", type=_RESULTS, help="Keep the results in a .csv, .jsonl or .parquet file, and go on with it.")
@click.option(
    "--copy-into", type=click.Path(path_type=Path, file_okay=False), help="Copy images here, in a folder per class."
)
@click.option("--service", metavar="URL", envvar="MLAPI_SERVICE", show_envvar=True, help="Ask this running service.")
@click.option(
    "--key",
    envvar="MLAPI_KEY",
    show_envvar=True,
    help="The API key for it; others see what is on a command line, so use the variable.",
)
@click.option(
    "--top-k",
    type=click.IntRange(1, TOP_CLASSES),
    default=1,
    help="How many classes of each image to keep, the most probable first.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what came of it as one JSON object.")
def classify(
    paths: tuple[str, ...],
    out: Path | None,
    copy_into: Path | None,
    service: str | None,
    key: str | None,
    top_k: int,
    as_json: bool,
) -> None:
    """Classify the images at PATH...: files, folders with all below them, and globs.

    INSTANCES processes of this command classify with MODEL; with --service, a running service does. Without --out, each
    image's path, class and score are printed.

    Run again with the same --out, it goes on after what is there. Ctrl-C finishes the images in work first.

    What cannot be classified is left out and listed at the end. Exit status: 0 all were classified; 1 some were not; 2
    the command line is wrong; 3 it could not begin or go on; 130 Ctrl-C.
    """
    from mlapi.collection import command

    wanted = command.Wanted(paths, out, copy_into, service, key, top_k, as_json)
    sys.exit(command.classify(wanted))


@cli.command()
@click.argument("service", type=click.Choice(["api", "worker"]))
def health(service: str) -> None:
    """Exit with 0 where this container's API or worker is well; for health checks."""
    from mlapi.service import health

    health.CHECKS[service]()


@cli.command()
@click.option("--photos", type=_FOLDER, help="Folder of your photos.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=1.0, help="How long each try lasts.")
@click.option(
    "--write", "file", type=click.Path(path_type=Path), default=Path(".env"), help="The file to keep the best in."
)
def tune(photos: Path | None, seconds: float, file: Path) -> None:
    """Find how many workers, threads and images at once serve MODEL best here, and keep that as settings.

    It decodes and classifies as workers do, without HTTP and queue. `mlapi serve`, `make run` and Compose read .env;
    what the environment says goes before.
    """
    from mlapi.service.cores import available_cores
    from mlapi.tuning import throughput, tune
    from model.ml_service import load_classifier
    from model.settings import ModelSettings

    settings, cores = ModelSettings.from_env(), available_cores()
    classifier = load_classifier(settings)
    candidates, files = throughput.plans(cores), tune.pictures(photos, settings)
    start = partial(throughput.classifiers, settings, files)
    tries = throughput.measurements(start, candidates, seconds, tune.ROUNDS)
    with click.progressbar(tries, length=tune.ROUNDS * len(candidates), label="Measuring", file=sys.stderr) as progress:
        speeds = throughput.summary(progress)
    echo(f"{classifier.manifest.name} in {classifier.precision} on {cores} cores:")
    echo_lines(f"\n{tune.table(speeds)}\n")
    chosen = tune.as_settings(tune.best(speeds).plan)
    tune.write(chosen, file)
    echo(f"{file} has {' '.join(f'{key}={value}' for key, value in chosen.items())}")


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as a list of JSON objects.")
def doctor(as_json: bool) -> None:
    """Look at all that the service needs on this machine, and say what to do about what is wrong.

    Exit status: 0 nothing is wrong, though some may be doubtful; 1 something is.
    """
    from mlapi.operating import doctor

    _log_errors_alone()
    findings = list[doctor.Finding]()
    for finding in doctor.examine():
        findings.append(finding)
        if not as_json:
            echo_lines(finding)
    if as_json:
        echo_json(json.dumps([asdict(finding) for finding in findings]))
    sys.exit(any(finding.state == "wrong" for finding in findings))


@cli.group("set-aside")
def set_aside_group() -> None:
    """List, inspect and release the images that ended two workers and are refused since.

    REDIS_URL says where the queue is; `mlapi serve` prints it when it is ready.
    """


@set_aside_group.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a list of JSON objects.")
def list_set_aside(as_json: bool) -> None:
    """Show the images that are set aside, oldest first."""
    from mlapi.operating import set_aside

    images = _queue().set_aside_images()
    _print([set_aside.as_dict(image) for image in images], map(set_aside.line, images), as_json=as_json)


@set_aside_group.command("show")
@click.argument("name")
@click.option("--save", type=click.Path(path_type=Path), help="Also write the image to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def show_set_aside(name: str, save: Path | None, as_json: bool) -> None:
    """Show what is known of an image; the beginning of its NAME is enough."""
    from jobs.settings import SharedSettings
    from jobs.storage.opening import open_store
    from mlapi.operating import set_aside

    images = open_store(SharedSettings.from_env())
    image = set_aside.find(_queue(), name)
    told = {**set_aside.as_dict(image), "bytes": set_aside.size_bytes(image, images)}
    _print(told, set_aside.facts(image, images).split("\n"), as_json=as_json)
    if save:
        set_aside.save(image, images, save)


@set_aside_group.command("release")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "every", is_flag=True, help="Release all of them, as after the decoder was mended.")
def release(names: tuple[str, ...], every: bool) -> None:
    """Let images be tried again when they are sent; the beginnings of their NAMEs are enough."""
    from mlapi.operating import set_aside

    if every == bool(names):
        raise click.UsageError("Name the images, or say --all.")
    queue = _queue()
    for image in queue.set_aside_images() if every else [set_aside.find(queue, name) for name in names]:
        queue.release(image.image_hash)
        echo(f"{image.image_name} is tried again when it is sent")


def _queue() -> "RedisJobQueue":
    from jobs.redis.queue import RedisJobQueue
    from jobs.settings import SharedSettings

    _log_errors_alone()
    return RedisJobQueue.from_settings(SharedSettings.from_env())


def _loads() -> "RedisLoads":
    from jobs.redis.loads import RedisLoads
    from jobs.settings import SharedSettings

    return RedisLoads.from_settings(SharedSettings.from_env())


@cli.group()
def model() -> None:
    """Make, list and check models, and say which versions serve."""


@model.command("add")
@click.argument("name")
@click.option(
    "--into", type=click.Path(path_type=Path), default=Path("var/models"), help="Folder of the model folders."
)
@click.option("--weights", help="A file of weights, for models that would download theirs.")
def add_model(name: str, into: Path, weights: str | None) -> None:
    """Make the model NAME ready to be served. `mlapi model list` shows the names."""
    from model import zoo

    folder = zoo.add(name, into, weights=weights)
    echo(f"{folder} is ready: MODEL={folder} make run")


@model.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def list_models(as_json: bool) -> None:
    """Show the models that `mlapi model add` can make."""
    from model import zoo

    _print(zoo.names(), zoo.names(), as_json=as_json)


@model.command("check")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def check_model(folder: Path, as_json: bool) -> None:
    """Load a model folder as a worker would, and say what does not fit."""
    from model.ml_service import load_classifier
    from model.settings import ModelSettings

    manifest = load_classifier(ModelSettings.from_env().model_copy(update={"model": folder})).manifest
    about = {"name": manifest.name, "version": manifest.version, "classes": len(manifest.labels)}
    said = f"{manifest.name} {manifest.version} can be served: {len(manifest.labels)} classes"
    _print(about, [said], as_json=as_json)


@model.command("quantize")
@click.argument("name")
@click.option("--images", type=_FOLDER, required=True, help="Folder of pictures like those to be classified.")
@click.option("--labelled", type=_FOLDER, help="Folder with a folder of pictures per class, to count right answers.")
@click.option("--as", "new_name", help="What the new model is called; by default NAME-int8.")
@click.option(
    "--samples", type=click.IntRange(min=1), default=300, help="Pictures to calibrate with; as many others compare."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def quantize_model(
    name: str, images: Path, labelled: Path | None, new_name: str | None, samples: int, as_json: bool
) -> None:
    """Make an INT8 version of the model NAME beside it, and compare the two.

    NAME is a model's name in var/models, or the path of its folder. The new model is faster on most processors and
    answers a little differently; the table says how much of both. What is served stays as it is until MODEL names the
    new one.
    """
    from mlapi.quantization import command

    report = command.quantize(command.Wanted(name, images, labelled, new_name, samples))
    _print(asdict(report), str(report).split("\n"), as_json=as_json)


@model.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print a list of JSON objects.")
def model_status(as_json: bool) -> None:
    """Show the versions that there are, and what each is for.

    For this and the commands below, REDIS_URL says where the queue is; `mlapi serve` prints it when it is ready.
    """
    from mlapi.operating import versions

    found = versions.status(_queue())
    lines = map(str, found) if found else ["No worker has made itself known yet."]
    _print([each.as_dict() for each in found], lines, as_json=as_json)


@model.command("load")
@click.argument("folder", type=click.Path(path_type=Path))
def load_model(folder: Path) -> None:
    """Have the running `mlapi serve` start workers of a model folder beside the others.

    It returns when they have loaded the version, tried it, and found its sample right. Only what names it reaches it
    until `mlapi model serve`, `canary` or `shadow` gives it more. Exit status: 0 it is ready; 1 it is not, and nothing
    has changed.
    """
    from mlapi.operating import loading

    echo(loading.load(_loads(), folder))


@model.command("unload")
@click.argument("version", metavar="NAME@VERSION")
@click.option("--last", is_flag=True, help="Even if no other version of the model has a worker.")
def unload_version(version: str, last: bool) -> None:
    """Stop the workers of a version that was loaded; refused while it serves, is a canary or a shadow."""
    from mlapi.operating import loading

    echo(loading.unload(_loads(), _queue(), version, last=last))


@model.command("serve")
@click.argument("version", metavar="NAME@VERSION")
def serve_version(version: str) -> None:
    """Have a version answer all that comes for its model; those before it finish what they have."""
    from mlapi.operating import versions

    echo(versions.serve(_queue(), version))


@model.command("canary")
@click.argument("version", metavar="NAME@VERSION")
@click.option("--percent", type=click.IntRange(0, 100), required=True, help="Of the images, by content; 0 ends it.")
def canary(version: str, percent: int) -> None:
    """Have a version answer some of what comes for its model."""
    from mlapi.operating import versions

    echo(versions.canary(_queue(), version, percent))


@model.command("shadow")
@click.argument("version", metavar="NAME@VERSION")
@click.option("--percent", type=click.IntRange(0, 100), required=True, help="Of the images, by content; 0 ends it.")
def shadow(version: str, percent: int) -> None:
    """Have a version compute some of what comes for its model, to compare it; its answers are given to nobody."""
    from mlapi.operating import versions

    echo(versions.shadow(_queue(), version, percent))


@model.command("rollback")
@click.argument("name")
def rollback(name: str) -> None:
    """End the canaries of the model NAME or, where it has none, have the version serve that did before."""
    from mlapi.operating import versions

    echo(versions.roll_back(_queue(), name))


@cli.group()
def feedback() -> None:
    """List and export what was reported as wrong, from FEEDBACK_FILEPATH and what is beside it."""


@feedback.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def list_feedback(as_json: bool) -> None:
    """Show the reports: those of the page and of /feedback, oldest first, then those of /v1, oldest first."""
    for report in _reports():
        echo_json(report.as_json()) if as_json else echo(report)


@feedback.command("export")
@click.argument("into", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "layout",
    type=click.Choice(["imagefolder", "jsonl"]),
    default="imagefolder",
    help="Images in a folder per right class, or a file with an object a line.",
)
def export_feedback(into: Path, layout: str) -> None:
    """Write the reports to INTO, for a model to be taught by."""
    from mlapi.operating import reports

    found = _reports()
    if layout == "jsonl":
        echo(f"{reports.export_lines(found, into)} reports in {into}", error=True)
    else:
        copied, left_out = reports.export_folders(found, into)
        echo(f"{copied} images in {into}; {left_out} reports without image or right class left out", error=True)


def _reports() -> "Iterator[KeptReport]":
    from api.feedback.file import FeedbackFile
    from api.settings import ApiSettings
    from mlapi.operating import reports

    settings = ApiSettings.from_env()
    file = FeedbackFile(settings.feedback_filepath, settings.max_feedback_bytes)
    return reports.read(file, settings.feedback_records)


@cli.group()
def key() -> None:
    """Make, list and remove the API keys in API_KEYS_FILE; a running service goes by the file as it is."""


@key.command("add")
@click.argument("name")
@click.option("--rate", help="Requests that the key is good for, as in 600/minute; else RATE_LIMIT, by address.")
def add_key(name: str, rate: str | None) -> None:
    """Make a key for NAME and print it, this once: only its hash is kept."""
    secret = _key_file().add(name, rate)
    echo("This key is shown once. Programs send `Authorization: Bearer KEY`; browsers ask for it.", error=True)
    echo(secret)


@key.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a list of JSON objects.")
def list_keys(as_json: bool) -> None:
    """Show whose keys there are, and each one's rate."""
    keys = _key_file().read()
    lines = (f"{kept.name}  {kept.rate or ''}".rstrip() for kept in keys)
    _print([{"name": kept.name, "rate": kept.rate} for kept in keys], lines, as_json=as_json)


@key.command("remove")
@click.argument("name")
def remove_key(name: str) -> None:
    """Make the key of NAME worthless."""
    _key_file().remove(name)


def _key_file() -> "KeyFile":
    from api.access.keys import KeyFile, KeyFileError
    from api.settings import ApiSettings

    file = ApiSettings.from_env().api_keys_file
    if file is None:
        raise KeyFileError("Set API_KEYS_FILE, in the environment or in .env, to the file that keeps the keys.")
    return KeyFile(file)


def _log_errors_alone() -> None:
    """Log no warnings, such as that Redis does not answer: the command says so in its own words."""
    for package in ("jobs", "runtime"):
        logging.getLogger(package).setLevel(logging.ERROR)


def _print(told: object, lines: "Iterable[str]", *, as_json: bool) -> None:
    """Print what a command tells, as JSON or in lines."""
    if as_json:
        echo_json(json.dumps(told))
        return
    for line in lines:
        echo(line)


def main() -> None:
    """Run the command line; what is wrong is said in a line or two, without a traceback."""
    try:
        cli()
    except QueueUnavailable:
        from jobs.redis.url import for_people
        from jobs.settings import SharedSettings

        where = for_people(SharedSettings.from_env().redis_url)
        sys.exit(f"mlapi: No Redis answers at {where}. Set REDIS_URL to where it is: `mlapi serve` prints it.")
    except (SetupError, ServiceError) as err:
        sys.exit(terminal.lines(f"mlapi: {err}"))
