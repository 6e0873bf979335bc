"""Every Redis key of the project; what is done with them at once is in `lua/`.

    {mlapi}:jobs                        stream: the interactive jobs that wait or that workers hold; group "workers"
    {mlapi}:jobs:bulk                   stream: the bulk jobs, with the same group
    {mlapi}:passed-bulk                 how many interactive jobs were taken since the last bulk job, while one waited
    {mlapi}:workers                     sorted set: worker -> when it was last heard of, in milliseconds
    {mlapi}:alive                       the same of the workers of all versions
    {mlapi}:service-times               hash: worker -> seconds for one image
    {mlapi}:worker-report:<worker>      what a worker tells operators of itself
    {mlapi}:images-per-s                what the live workers do together, by these times
    {mlapi}:queued-bytes                bytes of the images of {mlapi}:jobs; the scripts that add and remove jobs count
                                        them in the same step
    {mlapi}:queued-bytes:bulk           those of {mlapi}:jobs:bulk
    {mlapi}:replies:<id>                stream: the outcomes for one API process
    {mlapi}:result:<id>                 stream: what a request asked for, then its jobs' outcomes (redis_results.py)
    {mlapi}:results:answered            sorted set: the keys of those that came with all outcomes -> lua/bound.lua
    {mlapi}:results:submitted           sorted set: the keys of the others
    {mlapi}:text:<key>                  a text that is kept for a while
    {mlapi}:texts                       sorted set: the keys of these
    {mlapi}:reminders                   sorted set: what is to be done later -> when, in milliseconds
    {mlapi}:redeliveries                how many jobs were taken over from workers that died
    {mlapi}:set-aside                   hash: hash of an image that ended its workers -> what is known of that
    {mlapi}:model                       the model that the workers serve
    {mlapi}:model:<id>                  what is known of a model
    {mlapi}:prediction:<model>:<hash>   an image's cached prediction
    {mlapi}:cached                      sorted set: the keys of these
    {mlapi}:in-flight:<hash>            list: the interactive job that computes an image, then job and reply stream of
                                        each that waits for the same one
    {mlapi}:in-flight:bulk:<hash>       the same for bulk jobs
    {mlapi}:comparison:<a>:<b>          hash: how model b does on copies of what model a answered (comparison.py)
    {mlapi}:examined                    hash: model -> how many corrected images it gets right, and of how many
    {mlapi}:versions                    sorted set: the versions beside the default one -> when they came, in ms
    {mlapi}:routes                      hash: name of a model -> which of its versions serves, and more (versions.py)
    {mlapi}:loads                       hash: folder of a model -> what `mlapi serve` does with it (redis_loads.py)
    {mlapi}:supervisor                  there while a `mlapi serve` does that
    {mlapi}:rate:...                    the API's counts of requests, by api/access/rates.py
    {mlapi}:absent                      never there (redis_connection.py)

The workers of each version that stands beside the default one have keys of their own for jobs, bytes, images in flight,
speed and themselves, which have its name behind an @: {mlapi}:jobs@pets@2.

By what stands in braces, a Redis Cluster decides which node has a key. It is the same of all of them, since a script's
keys must be on one node.

Time is Redis's own, so hosts need not agree on theirs. Redis 6.2 suffices.
"""

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from jobs.schema import Lane

TAG = "{mlapi}"


class LaneKeys(NamedTuple):
    """The keys of one lane; that of an image in flight ends with the image's hash."""

    jobs: str
    queued_bytes: str
    in_flight: str


class PoolKeys(NamedTuple):
    """The keys of the workers of one version, and of their jobs."""

    lanes: Mapping[Lane, LaneKeys]
    passed_bulk: str
    workers: str
    service_times: str
    images_per_s: str
    model: str


@cache
def pool(name: str) -> PoolKeys:
    """Return the keys of a pool, which is a version's name or, for the default one, empty."""
    end = f"@{name}" if name else ""
    return PoolKeys(
        {
            "interactive": LaneKeys(f"{TAG}:jobs{end}", f"{TAG}:queued-bytes{end}", f"{TAG}:in-flight{end}:"),
            "bulk": LaneKeys(f"{TAG}:jobs:bulk{end}", f"{TAG}:queued-bytes:bulk{end}", f"{TAG}:in-flight:bulk{end}:"),
        },
        passed_bulk=f"{TAG}:passed-bulk{end}",
        workers=f"{TAG}:workers{end}",
        service_times=f"{TAG}:service-times{end}",
        images_per_s=f"{TAG}:images-per-s{end}",
        model=f"{TAG}:model{end}",
    )


GROUP = "workers"
ALIVE = f"{TAG}:alive"
EXAMINED = f"{TAG}:examined"
VERSIONS, ROUTES = f"{TAG}:versions", f"{TAG}:routes"
LOADS, SUPERVISOR = f"{TAG}:loads", f"{TAG}:supervisor"
WORKER_REPORT = f"{TAG}:worker-report:"
REPLIES = f"{TAG}:replies:"
RESULT = f"{TAG}:result:"
RESULTS_ANSWERED, RESULTS_SUBMITTED = f"{TAG}:results:answered", f"{TAG}:results:submitted"
TEXT, TEXTS = f"{TAG}:text:", f"{TAG}:texts"
REMINDERS = f"{TAG}:reminders"
REDELIVERIES = f"{TAG}:redeliveries"
SET_ASIDE = f"{TAG}:set-aside"
MODEL_INFO = f"{TAG}:model:"
PREDICTION = f"{TAG}:prediction:"
CACHED = f"{TAG}:cached"
RATE = f"{TAG}:rate"
ABSENT = f"{TAG}:absent"


def comparison_key(served: str, candidate: str) -> str:
    """Return the key of what is known of a model beside the one that serves."""
    return f"{TAG}:comparison:{served}:{candidate}"


def prediction_key(model: str, image_hash: str) -> str:
    """Return the key of an image's cached prediction."""
    return f"{PREDICTION}{model}:{image_hash}"
