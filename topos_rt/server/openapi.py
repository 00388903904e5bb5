"""What OpenAPI cannot learn from the routes' signatures: bodies that are read within limits, and problems."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from topos_rt.server.problems import MEDIA_TYPE, PROBLEMS
from topos_rt.server.schemas import ProblemBody

GLB = "model/gltf-binary"


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the responses of a route that are problems; every route can also be refused by the gate."""
    own = {401, 403, 421, 500, *statuses}
    return {
        status: {
            "description": "; ".join(title for other, title in PROBLEMS.values() if other == status),
            "content": {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ProblemBody.__name__}"}}},
        }
        for status in sorted(own)
    }


def raw(*media_types: str) -> dict[str, Any]:
    """Return a response that is a file."""
    schema = {"type": "string", "format": "binary"}
    return {"description": "the file", "content": {kind: {"schema": schema} for kind in media_types}}


def body_of(field: str, options: type[BaseModel] | None) -> dict[str, Any]:
    """Return the request body of a route that takes a file and options, as a form or as JSON."""
    schema = {} if options is None else options.model_json_schema()
    properties = schema.get("properties", {})

    def content(file: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": {field: file, **properties},
            "required": [field],
            "additionalProperties": False,
        }

    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": content({"type": "string", "format": "binary"})},
                "application/json": {"schema": content({"type": "string", "format": "byte"})},
            },
        }
    }
