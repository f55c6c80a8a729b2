"""Several processes of this machine on one job: each a command of its own, which ends when the first process does."""

from __future__ import annotations

import _thread
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, Any

# How many threads torch, NumPy and OpenCV take in a process, set before it starts, because no library's global setting is ever touched.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")


def devices_of(workers: int, device: str) -> list[str]:
    """The device of each worker: the cards in turn, if there are several and `device` leaves the choice."""
    count = 0
    if device in ("auto", "cuda"):
        import torch

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [f"cuda:{number % count}" if count > 1 else device for number in range(workers)]


def threads_of(workers: int) -> dict[str, str]:
    """The environment that divides this process's cores among the workers. What the user has set stays."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {name: str(max(1, cores // workers)) for name in _THREADS if name not in os.environ}


def run_workers(commands: Sequence[Sequence[str]], said: Callable[[str], None], told: Callable[[str], None]) -> list[int]:
    """Runs the commands at once and returns their exit codes. said, told: receive the lines of their stdout and stderr, in threads.

    The processes are started, not forked, and apart from the terminal: a Ctrl-C reaches only this process, which then closes their
    standard input. A worker ends when that closes (`end_with_parent`), so also if this process is killed.
    """
    apart: dict[str, Any] = {"start_new_session": True}
    if os.name == "nt":
        apart = {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    environment = {**os.environ, **threads_of(len(commands)), "PYTHONUTF8": "1"}
    running: list[subprocess.Popen[str]] = []
    readers: list[threading.Thread] = []
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    try:
        for command in commands:
            process = subprocess.Popen(  # noqa: S603
                command, **pipes, **apart, env=environment, encoding="utf-8", errors="backslashreplace"
            )
            running.append(process)
            for stream, receive in ((process.stdout, said), (process.stderr, told)):
                readers.append(threading.Thread(target=_read, args=(stream, receive), daemon=True))
                readers[-1].start()
        for process in running:
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.5)  # on Windows, Ctrl-C does not end a wait without a limit
    finally:
        try:
            for process in running:
                if process.stdin is not None:
                    with suppress(OSError):
                        process.stdin.close()
            for process in running:
                process.wait()
        finally:  # a second Ctrl-C
            for process in running:
                process.kill()
        for reader in readers:
            reader.join()
    return [process.returncode for process in running]


def _read(stream: IO[str], receive: Callable[[str], None]) -> None:
    with stream:
        for line in stream:
            receive(line.rstrip("\n"))


def end_with_parent() -> None:
    """Makes this process end as by Ctrl-C when its standard input closes. Windows has no other way to say so to one process.

    Call it in the main thread.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # what a shell gives to all that a script starts with `&`
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def watch() -> None:
        # Not sys.stdin, whose lock a waiting thread would hold when Python ends.
        with suppress(OSError):
            while os.read(0, 1):
                pass
        if hasattr(signal, "pthread_kill"):  # also ends what the main thread waits for
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        else:
            _thread.interrupt_main()

    threading.Thread(target=watch, daemon=True).start()
