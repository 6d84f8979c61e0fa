"""The shape of the source: which way imports point, who may read the clock, and how large things grow."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("actor_scheduler", "runtime")
FILE_LINES_MAX = 450
FUNCTION_LINES_MAX = 70

Function: TypeAlias = "ast.FunctionDef | ast.AsyncFunctionDef"


class Layer(NamedTuple):
    """Modules of one layer, and the layers these may import besides their own."""

    modules: tuple[str, ...]
    may_import: tuple[str, ...]


# Every module of actor_scheduler stands in exactly one layer; a trailing dot means a folder. Imports for type checkers
# count too.
LAYERS = {
    "values": Layer(
        ("call", "crashpoints", "errors", "ids", "limits", "model", "retry", "store.rows", "times"),
        (),
    ),
    "rules": Layer(
        (
            "codec",
            "crons.__init__",
            "crons.catchup",
            "crons.definition",
            "crons.duration",
            "crons.fields",
            "crons.firing",
            "crons.jitter",
            "crons.records",
            "crons.schedule",
            "crons.search",
            "crons.spec",
            "crons.wall",
            "gates",
            "index",
            "options",
            "plausible",
            "queues",
            "retention",
        ),
        ("values",),
    ),
    "ports": Layer(("clock", "failures", "store.base", "store.cron_units", "witness"), ("values", "rules")),
    "sqlite": Layer(("store.sqlite.",), ("values", "rules", "ports")),
    "parts": Layer(
        (
            "admission",
            "alarm",
            "attempts",
            "clock_wait",
            "dispatch",
            "first",
            "hold",
            "mailbox",
            "preparation",
            "pruning",
            "replies",
            "settings",
            "shield",
            "stirs",
            "turn_watch",
            "watchers",
        ),
        ("values", "rules", "ports"),
    ),
    "actor": Layer(("actor",), ("values", "ports", "parts")),
    "handle": Layer(("crons.handle", "job_list", "ports", "scheduler"), ("values", "rules", "ports", "actor")),
    "package": Layer(("__init__", "store.__init__"), ("values", "ports", "handle")),
    "testing": Layer(("testing.",), ("values", "rules", "ports")),
}

# The runtime, from the bottom up: at run time a module imports only those before it.
RUNTIME = (
    "invoker", "providers", "quota", "waiting", "conversion", "validation", "policy", "functions", "invoke",
    "registry", "context", "hooks", "meter", "feed", "loop_lag", "observing", "engine", "drain", "app_scheduler", "cron_definitions", "crons", "caller", "maintenance",
    # the HTTP surface: what a request is held against, its way, the routes, and the table of them all
    "http.__init__", "http.who", "http.secrets", "principals", "http.options", "http.plain", "http.answers", "http.reading", "http.routes",
    "http.audit", "http.sessions", "http.guard", "http.served",
    "http.stopping", "http.events", "http.health", "http.metrics", "http.tick", "http.rpc", "http.documents", "http.dispatch", "http.openapi", "http.asked", "http.confirmation",
    "http.admin_jobs", "http.admin_crons", "http.admin_system", "http.admin_backup", "http.dashboard", "http.tables", "http.surface",
    "app", "testing", "__init__", "offline",
    "cli.__init__", "cli.text", "cli.moments", "cli.trouble", "cli.keys", "cli.arguments", "cli.client", "cli.output",
    "cli.tables", "cli.asking", "cli.completing", "cli.jobs", "cli.crons", "cli.steering", "cli.loading", "cli.apps", "cli.files",
    "cli.main", "cli.__main__",
)  # fmt: skip

# What pure modules never need: the world outside.
WORLD = {
    "asyncio", "time", "random", "os", "sqlite3", "logging", "secrets", "socket", "subprocess", "tempfile", "shutil",
    "select", "signal", "io", "aiosqlite", "importlib",
}  # fmt: skip
PURE = (
    "call", "codec", "crons/catchup", "crons/definition", "crons/duration", "crons/fields", "crons/firing", "crons/jitter", "crons/records", "crons/schedule",
    "crons/search", "crons/spec", "crons/wall", "errors", "gates", "index", "limits", "model", "options", "queues", "retention", "retry", "times",
)  # fmt: skip

CHANCE = {
    "actor_scheduler/ids.py": "the nonces of ids: a NonceSource, which tests replace by a seeded one",
    "actor_scheduler/store/sqlite/fence.py": "the secret comment of our statements, per process",
    "actor_scheduler/store/sqlite/schema.py": "the uuid of a new database",
    "actor_scheduler/testing/nonces.py": "nonces from a seed",
    "runtime/cli/client.py": "the key of a surface that only its own process reaches",
    "runtime/http/confirmation.py": "the secret of confirmations, per process",
    "runtime/http/sessions.py": "the ids of browsers' sessions",
    "runtime/http/surface.py": "the ids of requests, which nothing depends on",
}

TOO_LONG: dict[str, str] = {}  # path: reason

# Tests that name a sleep without waiting for it.
NEVER_WAITS = {
    "tests/faults/test_h_ctx.py": "a mutation that tries to sleep is refused, and that is the test",
    "tests/layout/test_layout.py": "this file",
}


# ------------------------------------------------------------------ reading the source


@cache
def sources(*folders: str) -> dict[str, ast.Module]:
    """Return every module of these folders, parsed, by its path from the root."""
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert paths
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text("utf-8")) for path in paths}


def module_of(path: str) -> str:
    """Return a module's dotted name inside its package; a package's own module is `__init__`."""
    return ".".join(Path(path).with_suffix("").parts[1:])


def is_type_checking(node: ast.AST) -> bool:
    """Whether this is `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(tree: ast.AST, *, types_too: bool = True) -> Iterator[tuple[str, str]]:
    """Yield (module, name) of every import, wherever it stands; name is empty for `import module`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from ((node.module or "", alias.name) for alias in node.names)
        elif types_too or not is_type_checking(node):
            yield from imports(node, types_too=types_too)


def imported_modules(package: str, path: str, *, types_too: bool = True) -> set[str]:
    """Return the modules of `package` that a module imports, by their names inside it."""
    known = {module_of(other) for other in sources(package)}
    found: set[str] = set()
    for module, name in imports(sources(*PACKAGES)[path], types_too=types_too):
        if module != package and not module.startswith(f"{package}."):
            continue
        inner = module.removeprefix(package).removeprefix(".")
        candidates = [f"{inner}.{name}".strip("."), inner, f"{inner}.__init__".strip(".")]
        found.add(next(candidate for candidate in candidates if candidate in known))
    return found


def layer_of(module: str) -> str:
    """Return the one layer a module stands in."""
    found = [
        name
        for name, layer in LAYERS.items()
        if module in layer.modules or any(entry.endswith(".") and module.startswith(entry) for entry in layer.modules)
    ]
    assert len(found) == 1, f"{module} must stand in exactly one layer of LAYERS, not {found}"
    return found[0]


def functions(tree: ast.AST) -> Iterator[Function]:
    """Yield every function and method, nested ones too."""
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def called(node: ast.Call) -> str:
    """Return what a call calls, as written."""
    return ast.unparse(node.func)


# ------------------------------------------------------------------ which way imports point


def test_the_scheduler_never_imports_the_runtime() -> None:
    """The scheduler must be usable without the runtime, so no module of it may name the runtime, even for types."""
    offenders = [
        path
        for path, tree in sources("actor_scheduler").items()
        if any(module.partition(".")[0] == "runtime" for module, _ in imports(tree))
    ]
    assert offenders == []


def test_imports_of_the_scheduler_point_one_way() -> None:
    """Values <- rules <- ports <- adapters <- actor <- handle: a module may only import layers its own layer lists."""
    wrong = [
        f"{module} ({layer_of(module)}) imports {other} ({layer_of(other)})"
        for path in sources("actor_scheduler")
        for module in [module_of(path)]
        for other in sorted(imported_modules("actor_scheduler", path))
        if layer_of(other) not in (layer_of(module), *LAYERS[layer_of(module)].may_import)
    ]
    assert wrong == []


def test_no_layer_may_import_what_it_does_not_need() -> None:
    """The table must say how things are: a permission that nothing uses is to be taken away."""
    used = {
        (layer_of(module_of(path)), layer_of(other))
        for path in sources("actor_scheduler")
        for other in imported_modules("actor_scheduler", path)
    }
    allowed = {(name, other) for name, layer in LAYERS.items() for other in layer.may_import}
    assert allowed - used == set()


def test_the_layers_themselves_have_no_cycle() -> None:
    """Were two layers allowed to import each other, the rule above would say nothing."""
    TopologicalSorter({name: layer.may_import for name, layer in LAYERS.items()}).prepare()


@pytest.mark.parametrize("package", PACKAGES)
def test_no_modules_import_each_other(package: str) -> None:
    """At run time there must be no import cycle, inside a layer either."""
    graph = {module_of(path): imported_modules(package, path, types_too=False) for path in sources(package)}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"an import cycle: {error.args[1]}")


def test_the_public_handle_knows_values_and_the_port_only() -> None:
    """scheduler.py must serve any port: it may import values, rules and store.base, and nothing that runs."""
    allowed = {*LAYERS["values"].modules, *LAYERS["rules"].modules, "store.base", "job_list"}
    assert imported_modules("actor_scheduler", "actor_scheduler/scheduler.py") <= allowed


def test_imports_of_the_runtime_point_one_way() -> None:
    """Every module of the runtime must stand in RUNTIME, and at run time import only modules before it."""
    paths = sources("runtime")
    assert {module_of(path) for path in paths} == set(RUNTIME)
    wrong = [
        f"{module} imports {other}"
        for path in paths
        for module in [module_of(path)]
        for other in sorted(imported_modules("runtime", path, types_too=False))
        if RUNTIME.index(other) >= RUNTIME.index(module)
    ]
    assert wrong == []


def test_only_the_app_and_its_tests_choose_the_store() -> None:
    """The runtime knows the store by its port; only app.py, testing.py and those who look after files may name SQLite's."""
    users = {
        path
        for path in sources("runtime")
        if any(module.startswith("store.sqlite") for module in imported_modules("actor_scheduler", path))
    }
    assert users == {"runtime/app.py", "runtime/maintenance.py", "runtime/offline.py", "runtime/testing.py"}


# ------------------------------------------------------------------ the world outside


@pytest.mark.parametrize("module", PURE)
def test_rules_and_values_do_no_io(module: str) -> None:
    """Rules take time and chance as arguments, so they may import nothing that reaches outside."""
    tree = sources(*PACKAGES)[f"actor_scheduler/{module}.py"]
    assert {name.partition(".")[0] for name, _ in imports(tree)} & WORLD == set()
    assert [called(node) for node in ast.walk(tree) if isinstance(node, ast.Call) and called(node) == "open"] == []


def test_ids_take_nothing_from_the_system_but_chance() -> None:
    """ids.py may import os for urandom, and nothing else of the world."""
    tree = sources(*PACKAGES)["actor_scheduler/ids.py"]
    assert {name for name, _ in imports(tree)} & WORLD == {"os"}
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
    }
    assert used == {"urandom"}


def test_only_the_clock_reads_the_clock() -> None:
    """A second reader of wall or monotonic time would escape the virtual clock: clock.py must be the only one."""
    readers = {
        path
        for path, tree in sources(*PACKAGES).items()
        if any(module == "time" for module, _ in imports(tree))
        or any(
            isinstance(node, ast.Attribute)
            and (
                node.attr in ("utcnow", "today", "perf_counter", "monotonic")
                or (node.attr == "now" and ast.unparse(node.value).endswith("datetime"))
            )
            for node in ast.walk(tree)
        )
        or any(
            isinstance(node, ast.Attribute) and node.attr == "time" and ast.unparse(node.value).endswith("loop")
            for node in ast.walk(tree)
        )
    }
    assert readers == {"actor_scheduler/clock.py"}


def test_chance_comes_in_at_named_places_only() -> None:
    """Whatever draws a random number must stand in CHANCE with its reason, and nothing may stand there in vain."""
    drawers = {
        path
        for path, tree in sources(*PACKAGES).items()
        if any(
            module in ("random", "secrets", "numpy") or (module == "uuid" and name != "UUID")
            for module, name in imports(tree)
        )
        or any(
            isinstance(node, ast.Attribute) and node.attr in ("urandom", "getrandom", "uuid4", "uuid1")
            for node in ast.walk(tree)
        )
    }
    assert drawers == set(CHANCE)


def test_packages_do_not_print() -> None:
    """A library says what it has to say through logging and errors."""
    printers = [
        f"{path}:{node.lineno}"
        for path, tree in sources(*PACKAGES).items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and called(node) in ("print", "sys.stdout.write", "sys.stderr.write")
    ]
    assert printers == []


# ------------------------------------------------------------------ sizes, names, words


def test_files_stay_small() -> None:
    """A file longer than FILE_LINES_MAX holds more than one thing; TOO_LONG must name exactly those that are."""
    long = {
        path: lines
        for path in sources(*PACKAGES)
        if (lines := len((ROOT / path).read_text("utf-8").splitlines())) > FILE_LINES_MAX
    }
    assert set(long) == set(TOO_LONG), long


def test_functions_stay_small() -> None:
    """A function longer than FUNCTION_LINES_MAX does more than one thing."""
    long = [
        f"{path}:{function.lineno} {function.name}"
        for path, tree in sources(*PACKAGES).items()
        for function in functions(tree)
        if (function.end_lineno or 0) - function.lineno + 1 > FUNCTION_LINES_MAX
    ]
    assert long == []


def test_modules_are_named_for_what_they_hold() -> None:
    """A module called after nothing in particular collects everything."""
    vague = {"utils", "util", "common", "helpers", "helper", "misc", "base_classes", "shared"}
    assert [path for path in sources(*PACKAGES) if vague & set(Path(path).with_suffix("").parts)] == []


def _undocumented(path: str, tree: ast.Module) -> Iterator[str]:
    if not ast.get_docstring(tree):
        yield path
    todo: list[ast.AST] = [tree]
    while todo:
        for node in ast.iter_child_nodes(todo.pop()):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                if not ast.get_docstring(node):
                    yield f"{path}: class {node.name}"
                todo.append(node)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
                if not ast.get_docstring(node) and not _is_stub(node):
                    yield f"{path}: {node.name}"
            elif isinstance(node, ast.If):
                todo.append(node)


def _is_stub(function: Function) -> bool:
    """Whether it is an overload or a protocol's method: its implementation has the docstring."""
    only = function.body[0]
    return len(function.body) == 1 and isinstance(only, ast.Expr) and ast.unparse(only) == "..."


def test_everything_public_has_a_docstring() -> None:
    """Every public module, class, function and method must say what it guarantees."""
    assert [what for path, tree in sources(*PACKAGES).items() for what in _undocumented(path, tree)] == []


# ------------------------------------------------------------------ tests


def _sleeps(tree: ast.Module) -> Iterator[int]:
    if any(module in ("time", "asyncio", "anyio") and name == "sleep" for module, name in imports(tree)):
        yield 1  # under a bare name it could not be told from a test's own
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and called(node) in ("time.sleep", "asyncio.sleep", "anyio.sleep"):
            given = node.args[0] if node.args else None
            if not (called(node) == "asyncio.sleep" and isinstance(given, ast.Constant) and given.value == 0):
                yield node.lineno


def test_no_test_sleeps() -> None:
    """A test that waits for the real clock is slow, and fails on a slow machine: use the virtual clock, or an event."""
    slept = [
        f"{path}:{line}" for path, tree in sources("tests").items() if path not in NEVER_WAITS for line in _sleeps(tree)
    ]
    assert slept == []
