"""Ray: started on this machine where nobody else reaches it, or joined where it runs; ended with the work.

Ray is imported here and in `crew` alone, and only where a cluster is asked for.
"""

import logging
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from detox_engine.errors import InputError
from detox_engine.plans.shared.cluster import LOCAL, ClusterPlan

ANSWER = 5.0
"""Seconds in which the address of a cluster has to answer."""
WAY_IN = "install it with: pip install 'detox-explorer[cluster]'"
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_enable_metrics_collection": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}
"""Nothing is told to Ray's makers, and no figures are served."""
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}
"""Ray listens on every interface of a Linux machine unless it is told that this is no cluster of machines; and with a
token of its own nobody else on this machine gets in."""
WAITS = ("RAY_gcs_rpc_server_connect_timeout_s", "RAY_gcs_rpc_server_reconnect_timeout_s")
"""What Ray calls the seconds in which an address has to answer."""
TOKEN = secrets.token_hex(32)


def require_cluster(plan: ClusterPlan) -> None:
    """Raise an InputError where the cluster cannot be had; said before a model is loaded."""
    if plan.cluster is None:
        return
    if find_spec("ray") is None:
        raise InputError(f"A cluster needs Ray, which is not installed: {WAY_IN}.")
    if plan.cluster != LOCAL:
        host, _, port = plan.cluster.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=ANSWER).close()
        except (OSError, OverflowError) as error:
            raise _refuse(plan, getattr(error, "strerror", None) or "no answer") from None


@contextmanager
def connected(plan: ClusterPlan) -> Iterator[ModuleType]:
    """Ray, connected as the plan asks; a connection that is there already is used and left.

    Raises:
        InputError: there is no Ray, or it does not answer.
    """
    require_cluster(plan)
    # Read when Ray is imported, and never again.
    os.environ.update(QUIET)
    if plan.cluster == LOCAL:
        os.environ.update(ALONE, RAY_AUTH_TOKEN=TOKEN)
    import ray

    if ray.is_initialized():
        yield ray
        return
    # Paths of sockets are short, whatever the temporary folder.
    folder = tempfile.mkdtemp(prefix="detox-", dir="/tmp" if Path("/tmp").is_dir() else None)
    try:
        if plan.cluster == LOCAL:
            from joblib import cpu_count

            cores = max(cpu_count(), plan.workers or 1)
            _start(ray, num_cpus=cores, include_dashboard=False, _temp_dir=folder, _node_ip_address="127.0.0.1")
        else:
            _join(ray, plan)
        yield ray
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _start(ray: ModuleType, **options: object) -> None:
    ray.init(logging_level=logging.ERROR, log_to_driver=False, **options)
    # What Ray says of a dead worker it prints on standard output, whatever it was told of logs; it has no other switch.
    ray._private.worker._worker_logs_enabled = False


def _join(ray: ModuleType, plan: ClusterPlan) -> None:
    try:
        _check_health(plan)
        _start(ray, address=plan.cluster)
    except InputError:
        raise
    except Exception as error:  # of many kinds, as versions differ or tokens do
        raise _refuse(plan, str(error).strip().splitlines()[0]) from error


def _check_health(plan: ClusterPlan) -> None:
    """Ask in a process of its own, since Ray ends the process in which it cannot connect, and that after a minute."""
    import subprocess
    import sys

    command = (sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", plan.cluster)
    try:
        environment = os.environ | dict.fromkeys(WAITS, f"{ANSWER:.0f}")
        done = subprocess.run(command, capture_output=True, text=True, timeout=6 * ANSWER, env=environment)
    except subprocess.TimeoutExpired:
        raise _refuse(plan, "what answers is no Ray") from None
    if done.returncode != 0:
        told = [line for line in done.stderr.strip().splitlines() if "Error" in line or "ersion" in line]
        raise _refuse(plan, told[-1].strip() if told else "what answers is no Ray")


def _refuse(plan: ClusterPlan, reason: str) -> InputError:
    told = reason.partition(". ")[0].rstrip(".")  # Ray has advice for many lines
    return InputError(
        f"No Ray answers at {plan.cluster} ({told}): start one with “ray start --head”, give the address "
        "that it prints, or use --cluster local."
    )
