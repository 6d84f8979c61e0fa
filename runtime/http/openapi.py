"""OpenAPI 3.1 documents: of the public functions for clients, and of every route for operators. Pure but for routes."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any, Final, NotRequired, Required, TypeAlias

from pydantic import ConfigDict, PydanticUserError, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from typing_extensions import TypedDict

from actor_scheduler import __version__
from runtime.http.answers import answer
from runtime.http.routes import Route

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic_core import core_schema
    from starlette.responses import Response

    from runtime.functions import Function
    from runtime.http.routes import Visit
    from runtime.http.who import Door

Schema: TypeAlias = dict[str, Any]

_REF: Final = "#/components/schemas/{model}"
_PLACEHOLDER: Final = re.compile(r"\{(\w+)(?::\w+)?\}")

_BYTES: Final[Schema] = {
    "type": "object",
    "required": ["$bytes"],
    "properties": {"$bytes": {"type": "string", "contentEncoding": "base64"}},
    "additionalProperties": False,
}
_ERROR: Final[Schema] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "request_id"],
            "properties": {
                "code": {"type": "string", "description": "What a program can decide on."},
                "message": {"type": "string", "description": "What a person can read."},
                "request_id": {"type": "string", "description": "Under which the server's log has it."},
                "data": {"description": "What the function added, or which fields are wrong."},
            },
        }
    },
}

_EVERYWHERE: Final = {
    400: "the request can't be taken: its JSON, its fields, a parameter",
    500: "a mistake inside; the log has it under the request id",
    503: "the app can't take it now: Retry-After says when to try again; OUTCOME_UNKNOWN if it may have happened",
}
_WITH_BODY: Final = {
    408: "the body came too slowly",
    413: "the body is too large",
    415: "the body is not application/json, or compressed",
}
_OF_DOOR: Final[Mapping[Door, Mapping[int, str]]] = {
    "open": {},
    "page": {},
    "rpc": {
        401: "the app's resolver refuses this caller",
        403: "this caller may not do that",
        404: "there is no public function of this path, or the function found nothing",
        409: "a conflict: the function's own, or an Idempotency-Key that stands for another call",
        429: "over quota, or too many calls wait: try again after Retry-After",
        504: "the call took longer than it may",
    },
    "dispatch": {401: "the secret is missing or wrong", 429: "too many wrong secrets, or too much to do"},
    "read": {401: "the key is missing or wrong", 403: "refused to another site's page", 429: "too many wrong keys"},
    "operate": {
        401: "the key is missing or wrong",
        403: "this key may only read, or another site's page asked",
        404: "there is no such thing",
        409: "a conflict",
        429: "too many wrong keys, or too much to do",
        504: "it took longer than it may",
    },
    "login": {401: "the key is missing or wrong", 403: "refused to another site's page", 429: "too many wrong keys"},
}
_MEDIA: Final = {  # of answers that are no JSON
    "/admin/backup": "application/octet-stream",
    "/admin/events": "text/event-stream",
    "/metrics": "text/plain",
    "/dashboard": "text/html",
    "/dashboard/{asset}": "*/*",
}
_SCHEMES: Final[Mapping[str, Schema]] = {
    "dispatch": {"type": "http", "scheme": "bearer", "description": "the dispatch secret"},
    "deploy_key": {"type": "http", "scheme": "bearer", "description": "the deploy key, or the read key to look"},
    "session": {"type": "apiKey", "in": "cookie", "name": "__Host-actor_scheduler"},
    "app": {"type": "http", "scheme": "bearer", "description": "what the app's own resolver knows"},
}
_SECURITY: Final[Mapping[Door, Sequence[Mapping[str, Sequence[str]]]]] = {
    "open": [],
    "page": [],
    "login": [],
    "rpc": [{}, {"app": []}],
    "dispatch": [{"dispatch": []}],
    "read": [{"deploy_key": []}, {"session": []}],
    "operate": [{"deploy_key": []}, {"session": []}],
}


class _JsonSchema(GenerateJsonSchema):
    """pydantic's schemas; what has no schema is anything, so that one odd type does not cost the whole document.

    Bytes that are returned are {"$bytes": base64}, but in a model, which has a JSON form of its own.
    """

    _models = 0  # that are being described right now, one inside the other

    def bytes_schema(self, schema: core_schema.BytesSchema) -> JsonSchemaValue:
        """Describe bytes."""
        return super().bytes_schema(schema) if self.mode == "validation" or self._models else dict(_BYTES)

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Describe a model."""
        self._models += 1
        try:
            return super().model_schema(schema)
        finally:
            self._models -= 1

    def handle_invalid_for_json_schema(self, schema: core_schema.CoreSchema, error_info: str) -> JsonSchemaValue:
        """Describe a type that has no schema as any value."""
        return {}


# ------------------------------------------------------------------ documents


def document(
    routes: Iterable[Route], functions: Iterable[Function[..., Any]], *, server: str, title: str, version: str
) -> Schema:
    """Return the OpenAPI document of these routes, the route for calls spelled out function by function.

    Only public functions are in it, each with the schema of its arguments, and of its result where its return hint has
    one.  It is the same for the same routes and functions.
    """
    parts: list[tuple[str, Any, TypeAdapter[Any]]] = []
    calls = [function for function in functions if function.access == "public"]
    for function in calls:
        parts.append((f"{function.path} arguments", "validation", _arguments(function)))
        returned = _returned(function)
        if returned is not None:
            parts.append((f"{function.path} result", "serialization", returned))
    table = list(routes)
    for route in table:
        parts += [
            (f"{route.method} {route.path} {what}", "validation", TypeAdapter(model))
            for what, model in (("query", route.query), ("body", route.body))
            if model is not None
        ]
    made, shared = TypeAdapter.json_schemas(parts, ref_template=_REF, schema_generator=_JsonSchema)
    schemas = {key: schema for (key, _), schema in made.items()}
    components = {"Error": _ERROR, **shared.get("$defs", {})}
    paths: dict[str, Schema] = {}
    for route in table:
        if route.door == "rpc":
            for function in calls:
                path = route.path.replace("{path}", function.path)
                paths.setdefault(path, {})["post"] = _call(route, function, schemas)
        else:
            place = paths.setdefault(_PLACEHOLDER.sub(r"{\1}", route.path), {})
            place[route.method.lower()] = _operation(route, schemas, components)
    used = {name for route in table for option in _SECURITY[route.door] for name in option}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "servers": [{"url": server or "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {name: scheme for name, scheme in _SCHEMES.items() if name in used},
        },
    }


def arguments_schema(function: Function[..., Any]) -> Schema:
    """Return the JSON schema of a function's arguments, complete in itself; of any object where pydantic can't say."""
    try:
        return _arguments(function).json_schema(schema_generator=_JsonSchema)
    except (PydanticUserError, TypeError, NameError):
        return {"type": "object"}


def _arguments(function: Function[..., Any]) -> TypeAdapter[Any]:
    """Return the shape of a function's arguments, named after it."""
    required, optional = function.arguments.hints_by_need()
    fields: dict[str, Any] = {name: Required[hint] for name, hint in required.items()}
    fields.update({name: NotRequired[hint] for name, hint in optional.items()})
    make: Any = TypedDict  # from the signature, at run time: no type checker can follow
    shape = make(f"{function.path.replace(':', '.')}.arguments", fields)
    shape.__pydantic_config__ = ConfigDict(extra="forbid")
    shape.__module__ = "rpc"
    return TypeAdapter(shape)


def _returned(function: Function[..., Any]) -> TypeAdapter[Any] | None:
    """Return the shape of a function's result; None where its hint is missing, or pydantic has no use for it."""
    hint = function.arguments.return_hint()
    if hint is None:
        return None
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint)
        adapter.json_schema(mode="serialization", schema_generator=_JsonSchema)
    except (PydanticUserError, TypeError, NameError):
        return None
    return adapter


# ------------------------------------------------------------------ operations


def _call(route: Route, function: Function[..., Any], schemas: Mapping[str, Schema]) -> Schema:
    """Return the operation that calls one function."""
    summary, _, more = inspect.cleandoc(function.body.__doc__ or function.path).partition("\n")
    result = schemas.get(f"{function.path} result", {})
    told = {
        "type": "object",
        "required": ["result"],
        "properties": {"result": result},
        "additionalProperties": False,
    }
    required, _ = function.arguments.hints_by_need()
    operation: Schema = {
        "operationId": function.path.replace(":", "."),
        "tags": [function.path.partition(":")[0]],
        "summary": summary,
        "description": more.strip(),
        "requestBody": {
            "required": bool(required),
            "content": {"application/json": {"schema": schemas[f"{function.path} arguments"]}},
        },
        "security": [dict(option) for option in _SECURITY["rpc"]],
        "responses": {
            "200": {"description": route.answers.get(200, "done"), **_json(told)},
            **_errors(route),
            "4XX": {"description": "as the function says", **_json({"$ref": _REF.format(model="Error")})},
        },
    }
    if function.kind == "mutation":
        operation["parameters"] = [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "The call takes effect once under this key, however often it is sent.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 256, "pattern": "^[!-~]+$"},
            }
        ]
    return operation


def _operation(route: Route, schemas: Mapping[str, Schema], components: Mapping[str, Schema]) -> Schema:
    """Return the operation of a route."""
    told = {str(status): _answered(route, status, text) for status, text in route.answers.items()}
    operation: Schema = {
        "operationId": f"{route.method.lower()} {route.path}",
        "tags": [route.path.strip("/").partition("/")[0]],
        "summary": route.summary,
        "security": [dict(option) for option in _SECURITY[route.door]],
        "responses": {**_errors(route), **told},
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in _PLACEHOLDER.findall(route.path)
        ],
    }
    if route.query is not None:
        query = _resolved(schemas[f"{route.method} {route.path} query"], components)
        operation["parameters"] += [
            {"name": name, "in": "query", "required": name in query.get("required", ()), "schema": schema}
            for name, schema in query.get("properties", {}).items()
        ]
    if route.body is not None:
        body = schemas[f"{route.method} {route.path} body"]
        needed = bool(_resolved(body, components).get("required"))
        operation["requestBody"] = {"required": needed, "content": {"application/json": {"schema": body}}}
    return operation


def _answered(route: Route, status: int, text: str) -> Schema:
    if status >= 400:
        return {"description": text, **_json({"$ref": _REF.format(model="Error")})}
    return {"description": text, "content": {_MEDIA.get(route.path, "application/json"): {"schema": {}}}}


def _errors(route: Route) -> dict[str, Schema]:
    found = {**_EVERYWHERE, **(_WITH_BODY if route.method == "POST" else {}), **_OF_DOOR[route.door]}
    return {
        str(status): {"description": text, **_json({"$ref": _REF.format(model="Error")})}
        for status, text in sorted(found.items())
    }


def _resolved(schema: Schema, components: Mapping[str, Schema]) -> Schema:
    while "$ref" in schema:
        schema = components[schema["$ref"].rpartition("/")[2]]
    return schema


def _json(schema: Schema) -> Schema:
    return {"content": {"application/json": {"schema": schema}}}


# ------------------------------------------------------------------ routes


async def show_public(visit: Visit) -> Response:
    """Answer with the document for clients and outside clocks: nothing in it is about the administration."""
    routes = [route for route in _served(visit) if route.door in {"rpc", "dispatch", "open"}]
    return _shown(visit, routes)


async def show_all(visit: Visit) -> Response:
    """Answer with the document of every route."""
    return _shown(visit, _served(visit))


def _served(visit: Visit) -> list[Route]:
    """Return the routes that are open on this surface."""
    return [route for place in visit.request.app.routes for route in place.endpoint.routes]


def _shown(visit: Visit, routes: Iterable[Route]) -> Response:
    here = visit.request.app.routes[0]
    prefix = here.path.removesuffix(here.endpoint.routes[0].path)
    server = visit.request.scope.get("root_path", "") + prefix
    title = visit.served.db.stem
    return answer(document(routes, visit.served.functions(), server=server, title=title, version=__version__))


ROUTES: Final = (
    Route(
        method="GET",
        path="/openapi.json",
        door="open",
        handler=show_public,
        summary="The public functions, as an OpenAPI document",
        answers={200: "an OpenAPI 3.1 document"},
    ),
    Route(
        method="GET",
        path="/admin/openapi.json",
        door="read",
        handler=show_all,
        summary="Every route, as an OpenAPI document",
        answers={200: "an OpenAPI 3.1 document"},
    ),
)
