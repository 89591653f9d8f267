"""Ray: nothing else imports it.

connection   a cluster: the one at an address, or one of this machine's own
job          one training run
tasks        many small tasks: writing shards
training     a job through Ray Train, or in this process
plan         what a sweep asks of a cluster, and is asked and told
trial        one trial, wherever it runs
schedulers   who decides about running trials
tuning       trials as Ray Tune sees them
trials       many jobs through Ray Tune: a sweep
"""

from pipelines.cluster.connection import connect
from pipelines.cluster.job import Job
from pipelines.cluster.tasks import tasks
from pipelines.cluster.training import launch

__all__ = ["Job", "connect", "launch", "tasks"]
