"""The names of all Redis keys of the project; the scripts in `lua/` make the changes that must be atomic.

    {mlapi}:jobs                        stream: interactive jobs, waiting or held by workers; group "workers"
    {mlapi}:jobs:bulk                   stream: bulk jobs, with the same group
    {mlapi}:passed-bulk                 number of interactive jobs taken since the last bulk job, while one waited
    {mlapi}:workers                     sorted set: worker -> time of its last heartbeat, in milliseconds
    {mlapi}:alive                       the same for the workers of all versions
    {mlapi}:service-times               hash: worker -> seconds per image
    {mlapi}:worker-report:<worker>      a worker's report for operators
    {mlapi}:images-per-s                total speed of the live workers, by these times
    {mlapi}:queued-bytes                bytes of the images of {mlapi}:jobs; the scripts that add and remove jobs count
                                        them in the same step
    {mlapi}:queued-bytes:bulk           those of {mlapi}:jobs:bulk
    {mlapi}:replies:<id>                stream: the outcomes for one API process
    {mlapi}:result:<id>                 stream: a request, then its jobs' outcomes (results.py)
    {mlapi}:results:answered            sorted set: the keys of results that were complete when kept -> lua/bound.lua
    {mlapi}:results:submitted           sorted set: the keys of the others
    {mlapi}:text:<key>                  a text that is kept for a while
    {mlapi}:texts                       sorted set: the keys of these
    {mlapi}:reminders                   sorted set: reminder -> due time, in milliseconds
    {mlapi}:redeliveries                number of jobs taken over from workers that died
    {mlapi}:set-aside                   hash: hash of a quarantined image -> its record
    {mlapi}:model                       id of the model that the workers serve
    {mlapi}:model:<id>                  information on a model
    {mlapi}:prediction:<model>:<hash>   an image's cached prediction
    {mlapi}:cached                      sorted set: the keys of these
    {mlapi}:in-flight:<hash>            list: id of the interactive job that processes an image, then job and reply
                                        stream of every job that waits for the same image
    {mlapi}:in-flight:bulk:<hash>       the same for bulk jobs
    {mlapi}:comparison:<a>:<b>          hash: results of model b on copies of jobs that model a answered
                                        (jobs/versions/comparison.py)
    {mlapi}:examined                    hash: model -> how many corrected images it gets right, and of how many
    {mlapi}:versions                    sorted set: the versions beside the default one -> first heartbeat, in ms
    {mlapi}:routes                      hash: name of a model -> its `Route` (jobs/versions/rules.py)
    {mlapi}:loads                       hash: folder of a model -> its state in `mlapi serve` (loads.py)
    {mlapi}:supervisor                  exists while a `mlapi serve` handles these
    {mlapi}:rate:...                    the API's counts of requests, by api/access/rates.py
    {mlapi}:absent                      never exists (connection.py)

The workers of a version other than the default one have their own keys for jobs, bytes, images in flight, speed and
themselves, which end in @ and the version's name: {mlapi}:jobs@pets@2.

A Redis Cluster chooses a key's node by the part in braces. It is the same in all keys, since a script's keys must be
on one node.

Times are Redis's own, so clocks of hosts need not agree. Redis 6.2 suffices.
"""

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from jobs.schema import Lane

TAG = "{mlapi}"


class LaneKeys(NamedTuple):
    """The keys of one lane; `in_flight` is a prefix, to which an image's hash is added."""

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
    """Return the keys of a pool, which is a version's name, or empty for the default pool."""
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
    """Return the key of a model's comparison with the one that serves."""
    return f"{TAG}:comparison:{served}:{candidate}"


def prediction_key(model: str, image_hash: str) -> str:
    """Return the key of an image's cached prediction."""
    return f"{PREDICTION}{model}:{image_hash}"
