"""What the decorators accept, and what they refuse at once, each with a sentence that says why."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import Depends, Header

from runtime import (
    ActionCtx,
    App,
    InvalidArgs,
    InvalidTime,
    MutationCtx,
    Namespace,
    NotRegistrable,
    UnknownFunction,
)
from runtime.testing import Harness

if TYPE_CHECKING:
    from tests.runtime.conftest import Start

KINDS = ("query", "mutation", "action")


def refused(fn: Any, match: str, *, kind: str = "mutation", **options: Any) -> None:
    """Assert that a decorator refuses `fn` with this sentence, with options and without."""
    namespace: Namespace[Any] = Namespace("refused")
    if not options:
        with pytest.raises(NotRegistrable, match=match):
            getattr(namespace, kind)(fn)
    with pytest.raises(NotRegistrable, match=match):
        getattr(namespace, kind)(**options)(fn)
    assert namespace.functions == {}


# ------------------------------------------------------------------ what can't be a function


def plain(ctx: Any) -> None:
    """A plain def."""


def generator(ctx: Any) -> Any:
    """A generator."""
    yield 1


async def async_generator(ctx: Any) -> Any:
    """An async generator."""
    yield 1


class Callable:
    """An object with an async __call__."""

    async def __call__(self, ctx: Any) -> None:
        """Do nothing."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fn", [plain, generator, async_generator, lambda ctx: None, Callable(), 7])
def test_only_an_async_def_is_a_function(kind: str, fn: Any) -> None:
    """Whatever can't be awaited must be refused at decoration, not when it runs."""
    namespace: Namespace[Any] = Namespace("refused")
    with pytest.raises(NotRegistrable, match="must be an `async def`"):
        getattr(namespace, kind)()(fn)


async def no_ctx() -> None:
    """No parameter at all."""


async def only_keywords(*, ctx: Any) -> None:
    """Ctx can't be given by position."""


async def only_varargs(*args: Any) -> None:
    """Nothing that is ctx."""


@pytest.mark.parametrize("fn", [no_ctx, only_keywords, only_varargs])
def test_the_first_parameter_is_ctx(fn: Any) -> None:
    """A function that has no place for ctx must be refused."""
    refused(fn, "must take ctx as its first parameter")


async def with_args(ctx: Any, *ids: int) -> None:
    """Takes *args."""


async def with_kwargs(ctx: Any, **options: int) -> None:
    """Takes **kwargs."""


async def by_position(ctx: Any, post_id: int, /) -> None:
    """Takes an argument by position only."""


async def method(self: Any, ctx: Any) -> None:
    """Looks like a method."""


async def class_method(cls: Any) -> None:
    """Looks like a class method."""


@pytest.mark.parametrize(
    ("fn", "match"),
    [
        (with_args, r"takes \*ids: arguments are stored and validated one by one"),
        (with_kwargs, r"takes \*options"),
        (by_position, "takes post_id by position only"),
        (method, "is a method"),
        (class_method, "is a method"),
    ],
)
def test_arguments_have_names_and_methods_are_refused(fn: Any, match: str) -> None:
    """Arguments are stored by name; a signature where that can't work must be refused, saying which parameter."""
    refused(fn, match)


def test_a_method_is_refused_where_it_is_written() -> None:
    """A class with a decorated method must fail when the class is defined."""
    namespace: Namespace[Any] = Namespace("refused")
    with pytest.raises(NotRegistrable, match="is a method"):

        class Service:
            @namespace.mutation
            async def work(self, ctx: MutationCtx) -> None:
                pass


def test_framework_dependencies_are_refused() -> None:
    """A `Depends()` default would be stored as an argument; it must be refused with a pointer to ctx.use."""

    async def with_depends(ctx: Any, session: Any = Depends(plain)) -> None:  # noqa: B008
        pass

    async def with_header(ctx: Any, token: str = Header()) -> None:
        pass

    refused(with_depends, r"session is a framework dependency, which only a route gets; use ctx\.use")
    refused(with_header, "token is a framework dependency")


# ------------------------------------------------------------------ names, paths, options


@pytest.mark.parametrize("name", ["", "Posts", "posts:", "a b", "1a", "a..b", ".a", "a.", "ä", "a-b", "a\n", 7, None])
def test_a_namespace_has_a_name_that_makes_a_path(name: Any) -> None:
    """A name that can't be the first half of a path must be refused."""
    with pytest.raises(NotRegistrable, match="must be lower-case letters"):
        Namespace(name)


@pytest.mark.parametrize("name", ["a", "posts", "billing.invoices", "a1_b", "a.1"])
def test_a_namespace_name_may_have_parts(name: str) -> None:
    """Lower-case letters, digits, _ and dots between parts must do."""
    assert Namespace(name).name == name


@pytest.mark.parametrize("name", ["", "a:b", "a b", "1a", "a" * 65, "ä", "a.b", "a\n"])
def test_a_function_has_a_name_that_makes_a_path(name: str) -> None:
    """A `name=` that can't be the second half of a path must be refused."""
    refused(good, "is not a path: it reads namespace:function", name=name)


def test_a_path_has_a_limit() -> None:
    """The path is stored with every job, so its length must be bounded."""
    namespace: Namespace[Any] = Namespace("a" * 100)
    with pytest.raises(NotRegistrable, match="at most 128 characters"):
        namespace.mutation(name="b" * 28)(good)
    assert namespace.mutation(name="b" * 27)(good).path == "a" * 100 + ":" + "b" * 27


async def good(ctx: Any) -> None:
    """Nothing is wrong with it."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_doubled_path_is_refused(kind: str) -> None:
    """Two functions under one path, of whatever kinds, must be refused at the second decoration."""
    namespace: Namespace[Any] = Namespace("posts")
    namespace.mutation(good)
    with pytest.raises(NotRegistrable, match="posts:good is registered twice"):
        getattr(namespace, kind)(good)
    with pytest.raises(NotRegistrable, match="posts:good is registered twice"):
        getattr(namespace, kind)(name="good")(good)
    getattr(namespace, kind)(name="other")(good)


def test_one_function_has_one_kind() -> None:
    """Decorating a decorated function must be refused."""
    namespace: Namespace[Any] = Namespace("posts")
    registered = namespace.query(good)
    with pytest.raises(NotRegistrable, match="<query posts:good> is registered already: one function has one kind"):
        namespace.mutation(name="again")(registered)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"access": "everybody"}, NotRegistrable, "access must be one of"),
        ({"access": "Public"}, NotRegistrable, "access must be one of"),
        ({"aliases": "posts:old"}, NotRegistrable, "aliases is a sequence of paths, not one str"),
        ({"aliases": ["old"]}, NotRegistrable, "'old' is not a path"),
        ({"timeout": -1}, InvalidTime, "timeout must not be negative"),
        ({"timeout": float("nan")}, InvalidTime, "timeout must be"),
        ({"timeout": True}, InvalidTime, "timeout must be a timedelta or a number of seconds"),
        ({"retries": 3}, TypeError, "retries"),
    ],
)
def test_wrong_decorator_options_are_refused(options: dict[str, Any], error: type[Exception], match: str) -> None:
    """An option that is unknown or does not fit must be refused, and nothing registered."""
    namespace: Namespace[Any] = Namespace("posts")
    with pytest.raises(error, match=match):
        namespace.mutation(**options)(good)
    assert namespace.functions == {}


def test_the_default_access_is_the_namespaces() -> None:
    """A function without `access` must have its namespace's, which is internal unless given."""
    for access, default in ((None, "internal"), ("public", "public"), ("system", "system")):
        namespace = Namespace("a") if access is None else Namespace("a", access=access)  # type: ignore[arg-type]
        assert namespace.query(name="one")(good).access == default
        assert namespace.query(name="two", access="system")(good).access == "system"
    with pytest.raises(NotRegistrable, match="access must be one of"):
        Namespace("a", access="all")  # type: ignore[arg-type]


def test_a_function_keeps_its_name_and_docstring() -> None:
    """Tools that read functions must find what was written."""
    function = Namespace("posts").mutation(good)
    assert (function.__name__, function.__doc__, function.__module__) == ("good", good.__doc__, __name__)
    assert function.__wrapped__ is good
    assert (function.path, function.kind, repr(function)) == ("posts:good", "mutation", "<mutation posts:good>")


def test_a_well_behaved_decorator_of_the_users_own_fits_between() -> None:
    """A `functools.wraps` wrapper must be registered with the signature of what it wraps."""

    def logged(fn: Any) -> Any:
        @functools.wraps(fn)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            return await fn(*args, **kwargs)

        return wrapper

    async def pay(ctx: MutationCtx, *, amount: int) -> int:
        return amount

    function = Namespace("posts").mutation(logged(pay))
    assert function.arguments.validate({"amount": "3"}, "p") == {"amount": 3}
    with pytest.raises(InvalidArgs, match="sum"):
        function.arguments.validate({"sum": 3}, "p")


# ------------------------------------------------------------------ namespaces in apps


async def test_two_namespaces_of_one_name_are_refused() -> None:
    """The second namespace of a name must be refused, but including the same one again is harmless."""
    posts: Namespace[Any] = Namespace("posts")
    app = App("unused.db", namespaces=[posts])
    app.include(posts)
    with pytest.raises(NotRegistrable, match="two namespaces are called 'posts'"):
        app.include(Namespace("posts"))
    with pytest.raises(NotRegistrable, match="two namespaces are called 'posts'"):
        app.namespace("posts")


async def test_an_alias_is_the_function_and_is_taken_once(start: Start) -> None:
    """Jobs and calls under an old path must reach the function; an alias that is taken must stop the start."""
    posts: Namespace[Any] = Namespace("posts")

    @posts.mutation(aliases=["old.posts:pub", "posts:pub"])
    async def publish(ctx: MutationCtx, *, n: int) -> int:
        return n

    h = await start(posts)
    assert await h.call("old.posts:pub", {"n": 1}) == 1
    job_id = await h.scheduler.run_now("posts:pub", {"n": 2})
    (job,) = await h.settle()
    assert (job.id, job.path, job.result) == (job_id, "posts:publish", 2)

    other: Namespace[Any] = Namespace("other")
    other.mutation(aliases=["posts:publish", "other:x"])(good)
    other.mutation(name="again", aliases=["other:x"])(good)
    with pytest.raises(NotRegistrable) as caught:
        async with Harness(App("unused.db", namespaces=[posts, other])):
            pass
    assert "alias posts:publish of other:good is taken" in str(caught.value)
    assert "alias other:x of other:again is taken" in str(caught.value)


async def test_an_unknown_path_names_the_nearest(start: Start) -> None:
    """A typing error must be answered with the name that was meant, and an unknown namespace with what to do."""
    posts: Namespace[Any] = Namespace("posts")
    posts.mutation(name="publish")(good)
    h = await start(posts)
    with pytest.raises(UnknownFunction, match=re.escape("'posts:publsh': did you mean 'posts:publish'?")):
        await h.call("posts:publsh")
    with pytest.raises(UnknownFunction, match="did you mean 'posts:publish'"):
        await h.scheduler.run_now("posts:publsh")
    for path in ("zzz:zzz", "", ":", "posts", "posts:"):
        with pytest.raises(UnknownFunction, match="no function is registered as"):
            await h.scheduler.run_now(path)


async def test_a_function_of_another_app_is_not_called(start: Start) -> None:
    """A function object whose namespace is not included, or another's under the same path, must be refused."""
    posts: Namespace[Any] = Namespace("posts")
    twin: Namespace[Any] = Namespace("posts")
    ours, theirs = posts.mutation(good), twin.mutation(good)
    h = await start(posts)
    assert await h.call(ours) is None
    with pytest.raises(UnknownFunction, match="is not this app's function of that path"):
        await h.call(theirs)
    stranger = Namespace("strangers").mutation(good)
    with pytest.raises(UnknownFunction, match="no function is registered as 'strangers:good'"):
        await h.call(stranger)
    with pytest.raises(UnknownFunction):
        await h.scheduler.now().call(stranger)


async def test_a_function_can_be_added_to_an_included_namespace_before_start(start: Start) -> None:
    """The order of include and decoration must not matter, as with APIRouter it would."""
    posts: Namespace[Any] = Namespace("posts")
    app = App("unused.db", namespaces=[posts])
    posts.action(good)
    h = await start(app)
    assert await h.call("posts:good") is None


def test_decorated_functions_are_typed_at_run_time_by_kind() -> None:
    """A query has no `bind`: it can't be scheduled."""
    namespace: Namespace[Any] = Namespace("posts")

    async def act(ctx: ActionCtx) -> None:
        pass

    assert not hasattr(namespace.query(good), "bind")
    assert namespace.action(act).bind().path == "posts:act"
