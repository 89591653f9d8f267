"""A Ray cluster: the one at an address, or one of this machine's own."""

from __future__ import annotations

import logging
import os
import warnings

from pipelines.params import Resources

LOCAL_OBJECT_STORE = 100 * 2**20
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # the default of 2 s is added to the end of every fit
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # prints every line twice
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_worker_niceness": "0",  # the default of 15 gives the cores to anything else that wants them
}


def quiet_environment() -> None:
    """Settings of Ray that must be in the environment before it is imported; what is set already stays."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for name in ("ray", "ray.train", "ray.data", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="ray")


def connect(resources: Resources, *, cpus: int) -> bool:
    """Connect to the cluster at ``resources.address``, or start one on this machine with ``cpus`` logical CPUs.

    Returns:
        Whether the connection is new: then the caller ends it, and a local cluster with it.
    """
    quiet_environment()
    import ray

    if ray.is_initialized():
        return False
    if resources.address == "local":
        # A head that died without cleaning up makes a plain init() hang; "local" always starts afresh.
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=LOCAL_OBJECT_STORE,
        )
    else:
        ray.init(address=resources.address, log_to_driver=False, logging_level=logging.ERROR)
    return True
