"""Heavy symbolic algebra in a separate process that can be stopped.

`sympy.simplify`, `solve` or `integrate` may run for hours on a short formula, and nothing inside a process can stop
them. So one warm worker process does them; when a limit passes it is killed and the next request starts a new one.

    run("solve", g**2/2 - 1, g)          # [-sqrt(2), sqrt(2)]
    run("simplify", expression, limit=2.0)

Safe because nothing executable crosses the pipe: requests and answers are JSON of plain lists (`transport.py`), the
operation is a name looked up in `_OPERATIONS`, and both ends are this file, started by this process with its own
interpreter over its own private pipe. The child is started by `subprocess`, not `multiprocessing`, so a user's script
needs no `if __name__ == "__main__"` guard; it ends when the pipe closes, even in the middle of a computation.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sympy as sp

from lensnet.algebra.transport import TransportError, decode, encode

LIMIT = 2.0
"""Seconds that an operation may take, of the worker's own processor time where the system tells it."""
_PATIENCE = 8.0
"""How many times as long an operation may take by the clock: on a busy machine the worker waits for its turn."""
_START_LIMIT = 30.0
_MEMORY = 4 * 2**30
_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from lensnet.algebra.worker import serve; serve()"


class AlgebraTimeout(TimeoutError):
    """The operation did not finish within its limit; the worker was killed."""


class AlgebraFailed(RuntimeError):
    """sympy could not do the operation, or the result has no plain form."""


def _integrate(expression: sp.Expr, symbol: sp.Symbol, *bounds: sp.Expr) -> sp.Expr:
    return sp.integrate(expression, (symbol, *bounds) if bounds else symbol)


def _series(expression: sp.Expr, symbol: sp.Symbol, point: sp.Expr, order: sp.Expr) -> sp.Expr:
    return sp.series(expression, symbol, point, int(order)).removeO()


def _limit(expression: sp.Expr, symbol: sp.Symbol, point: sp.Expr, *side: sp.Expr) -> sp.Expr:
    return sp.limit(expression, symbol, point, *("+" if s > 0 else "-" for s in side))


def _solve(equation: sp.Expr, symbol: sp.Symbol) -> list[sp.Expr]:
    return list(sp.solve(equation, symbol))


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "simplify": sp.simplify,
    "expand": sp.expand,
    "factor": sp.factor,
    "diff": sp.diff,
    "integrate": _integrate,
    "limit": _limit,
    "series": _series,
    "solve": _solve,
}


def run(operation: str, *arguments: sp.Basic, limit: float = LIMIT) -> Any:
    """The result of a symbolic operation done in the shared worker: an expression, or a list of them for "solve".

    Operations: simplify, expand, factor (expression); diff (expression, symbol); integrate (expression, symbol[, low,
    high]); limit (expression, symbol, point[, 1 or -1 for the side]); series (expression, symbol, point, order, without
    the O term); solve (expression = 0 or equation, symbol).

    Raises:
        AlgebraTimeout: it took longer than `limit` seconds.
        AlgebraFailed: sympy raised, or the result cannot be sent.
        KeyError: unknown operation.
    """
    return _shared.run(operation, *arguments, limit=limit)


class Worker:
    """One worker process, started on first use and again after every kill. Safe to use from several threads."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str] = queue.Queue()
        self._lock = threading.Lock()

    def run(self, operation: str, *arguments: sp.Basic, limit: float = LIMIT) -> Any:
        """As the function `run`, in this worker."""
        if operation not in _OPERATIONS:
            raise KeyError(f"no algebra operation {operation}; there are {', '.join(_OPERATIONS)}")
        try:
            message = json.dumps([operation, [encode(argument) for argument in arguments]])
        except TransportError as error:
            raise AlgebraFailed(str(error)) from error
        with self._lock:
            self._ensure_started()
            kind, content = self._ask(message, limit, operation)
        if kind == "failed":
            raise AlgebraFailed(f"{operation}: {content}")
        return [decode(part) for part in content] if kind == "list" else decode(content)

    def start(self) -> None:
        """Start the process now, so that the first request does not wait for it."""
        with self._lock:
            self._ensure_started()

    def stop(self) -> None:
        """Kill the process, whatever it is doing."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def _ensure_started(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self.stop()
        root = str(Path(__file__).resolve().parents[2])
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self._answers = queue.Queue()
        threading.Thread(target=_read, args=(self._process.stdout, self._answers), daemon=True).start()
        if self._answer(_START_LIMIT) != "ready":
            self.stop()
            raise AlgebraFailed("the algebra worker did not start")

    def _ask(self, message: str, limit: float, operation: str) -> tuple[str, Any]:
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(message + "\n")
            self._process.stdin.flush()
        except OSError as error:
            self.stop()
            raise AlgebraFailed("the algebra worker is gone") from error
        answer = self._answer_in_time(limit)
        if answer is None:
            self.stop()
            raise AlgebraTimeout(f"{operation} took longer than {limit} s")
        if not answer:
            self.stop()
            raise AlgebraFailed(f"the algebra worker ended during {operation} (out of memory?)")
        kind, content = json.loads(answer)
        return kind, content

    def _answer_in_time(self, limit: float) -> str | None:
        """The answer, None when the worker has used up its time."""
        assert self._process is not None
        used = _processor_time(self._process.pid)
        answer = self._answer(limit)
        waited = limit
        while answer is None and used is not None and waited < _PATIENCE * limit:
            now = _processor_time(self._process.pid)
            left = limit - (now - used) if now is not None else 0.0
            if left <= 0.0:
                return None
            answer = self._answer(left)
            waited += left
        return answer

    def _answer(self, limit: float) -> str | None:
        try:
            return self._answers.get(timeout=limit).strip()
        except queue.Empty:
            return None


def _processor_time(pid: int) -> float | None:
    """Seconds of processor time that a process has used; None where the system does not say (only Linux does)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


def _read(stream: Any, answers: queue.Queue[str]) -> None:
    """Hand on every line; an empty one when the stream ends."""
    try:
        for line in stream:
            answers.put(line)
    except ValueError:
        pass  # closed by stop()
    answers.put("")


def serve() -> None:
    """The worker's side: answer requests from standard input until it closes."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    except (ImportError, ValueError, OSError):
        pass  # no such limit on this system
    requests: queue.Queue[str] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            requests.put(line)
        os._exit(0)  # the parent is gone: stop in the middle of whatever runs

    threading.Thread(target=listen, daemon=True).start()
    output, sys.stdout = sys.stdout, sys.stderr
    print("ready", file=output, flush=True)
    while True:
        print(json.dumps(_answered(requests.get())), file=output, flush=True)


def _answered(line: str) -> tuple[str, Any]:
    try:
        operation, arguments = json.loads(line)
        result = _OPERATIONS[operation](*(decode(argument) for argument in arguments))
        return ("list", [encode(part) for part in result]) if isinstance(result, list) else ("one", encode(result))
    except Exception as error:  # sympy raises anything; the parent wants to know, not to break
        return "failed", f"{type(error).__name__}: {error}"[:500]


_shared = Worker()
atexit.register(_shared.stop)
