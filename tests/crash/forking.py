"""The far end of a nursery: a process that has everything imported, and forks one life at a time."""

from __future__ import annotations

import gc
import os
import signal
import socket
import traceback
from collections.abc import Callable
from pathlib import Path

FAILED = 70  # the exit status of a life that ended in a way it never should


def serve(control: socket.socket, live: Callable[[Path, int], object]) -> None:
    """Fork a life for each request: everything is imported already, nothing is opened yet.

    A request is the path of a plan, with the descriptor to write to; the answers are the pid, and, when asked for, the
    wait status.  A dead life is only reaped when the parent asks, so that its pid can't belong to another meanwhile.
    """
    gc.freeze()
    while True:
        request, fds, _, _ = socket.recv_fds(control, 4096, 1)
        if not request:
            return
        pid = os.fork()
        if pid == 0:
            control.close()
            status = FAILED
            try:
                live(Path(request.decode()), fds[0])
                status = 0
            except BaseException:  # the parent sees the status, and the text in the nursery's log
                traceback.print_exc()
            finally:
                os._exit(status)
        os.close(fds[0])
        control.sendall(f"{pid}\n".encode())
        if not control.recv(1):
            os.kill(pid, signal.SIGKILL)
        _, wait_status = os.waitpid(pid, 0)
        control.sendall(f"{wait_status}\n".encode())
