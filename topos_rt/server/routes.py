"""The routes over HTTP: models, faces, heads and their files, scans."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from topos_rt import __version__
from topos_rt.flow.settings import PRESETS
from topos_rt.head.mesh import HeadMesh
from topos_rt.server import making, schemas
from topos_rt.server.files import AS_MADE, KINDS, FileOptions, kinds_of, written
from topos_rt.server.metrics import MEDIA_TYPE
from topos_rt.server.openapi import GLB, body_of, problems, raw
from topos_rt.server.problems import Problem
from topos_rt.server.results import ID, Kept, unknown
from topos_rt.server.service import Service
from topos_rt.server.uploads import read_upload
from topos_rt.server.work import Desk, Job, first_of

T = TypeVar("T")
router = APIRouter()
# Told and not checked, since whatever else is no place here.
_Id = Annotated[
    str, Path(description="of an answer to POST /v1/heads", json_schema_extra={"pattern": f"^{ID.pattern}$"})
]
_Kind = Annotated[str, Path(description="the kind of file", json_schema_extra={"enum": list(KINDS)})]
_MOST_ACCEPTED = 20


def service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def work(request: Request, desk: Desk, job: Job, task: Callable[[], T]) -> T:
    """Run a task in a worker, unless the client leaves first: then it is told to stop."""

    async def left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    done = await first_of(asyncio.create_task(desk.run(job, task)), asyncio.create_task(left()))
    if done is None:
        raise Problem("deadline", "the client has gone")  # which nobody reads
    return done


def entry_of(service: Service, head: HeadMesh, kind: str, notes: Sequence[str] = ()) -> dict[str, Any]:
    """Keep a head, count it, and return what its client is told; for a worker's thread."""
    about: dict[str, Any] = {
        "seed": head.metadata.get("seed"),
        "face": None if head.face is None else head.face.facts(),
        "expression": {name: round(weight, 4) for name, weight in head.expression.items()},
        "vertices": len(head.positions),
        "warnings": [*head.metadata.get("warnings", ()), *notes],
        "timings": {stage: round(seconds, 4) for stage, seconds in head.timings.items()},
        "metadata": dict(head.metadata),
        "kinds": kinds_of(head),
    }
    name, expires = service.results.put(head, about)
    count(service, head, kind)
    return told(name, about, expires)


def told(name: str, about: dict[str, Any], expires: float) -> dict[str, Any]:
    """Return what a client is told of a kept head."""
    links = {kind: f"/v1/heads/{name}.{kind}" for kind in about["kinds"]}
    facts = {key: value for key, value in about.items() if key != "kinds"}
    return {"id": name, **facts, "links": links, "expires": round(expires, 1)}


def count(service: Service, head: HeadMesh, kind: str) -> None:
    service.metrics.heads.labels(kind).inc()
    for stage, seconds in head.timings.items():
        service.metrics.stages.labels(stage).observe(seconds)


def wants_glb(request: Request) -> bool:
    """Return whether the client prefers the GLB itself to JSON. Raises Problem where it takes neither."""
    given = request.headers.get("accept") or "*/*"
    wishes = sorted((_weighed(part) for part in given.split(",")[:_MOST_ACCEPTED]), key=lambda it: -it[1])
    for kind, weight in wishes:
        if weight > 0 and kind in (GLB, "model/*"):
            return True
        if weight > 0 and kind in ("*/*", "application/*", "application/json"):
            return False
    raise Problem("not-acceptable", "Accept", got=repr(given)[:80], expected=f"application/json or {GLB}")


def _weighed(part: str) -> tuple[str, float]:
    """Return a type of an Accept header and its weight; one that cannot be read is 1."""
    kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for name, _, value in (parameter.partition("=") for parameter in parameters):
        if name.strip() == "q":
            with contextlib.suppress(ValueError):
                return kind, float(value)
    return kind, 1.0


async def made(
    request: Request, job: Job, kind: str, task: Callable[[], list[HeadMesh]], notes: Sequence[str] = ()
) -> Response:
    """Let a worker make heads, and answer with the entries of all or, if the client prefers it, one's GLB."""
    service = service_of(request)
    as_glb = wants_glb(request)

    def whole() -> list[dict[str, Any]] | bytes:
        heads = task()
        job.require()  # what nobody waits for is not kept
        if not as_glb:
            return [entry_of(service, head, kind, notes) for head in heads]
        count(service, heads[0], kind)
        return written(heads[0], "glb", AS_MADE)

    done = await work(request, service.desk, job, whole)
    if isinstance(done, bytes):
        return Response(done, media_type=GLB)
    return JSONResponse({"heads": done}, 201, headers={"Location": f"/v1/heads/{done[0]['id']}"})


@router.get("/v1/models", responses=problems(503))
async def models(request: Request) -> schemas.Models:
    """The model that is loaded, and what it can do."""
    service = service_of(request)
    pipeline = service.pipeline
    bundle = pipeline.bundle
    name = bundle.manifest.name
    rig = bundle.rig
    model = schemas.Model(
        name=name,
        weights=bundle.manifest.weights.note,
        loaded=True,
        backend=pipeline.backend,
        presets=[schemas.Preset(name=key, steps=preset.steps) for key, preset in PRESETS.items()],
        vertices=bundle.topology.num_vertices,
        shapes=[] if rig is None else list(rig.shape_names),
        lods=len(bundle.topology.lods) + 1,
        texture=bundle.atlas is not None,
        topology=f"/v1/models/{name}/topology",
    )
    return schemas.Models(models=[model])


@router.get(
    "/v1/models/{name}/topology",
    response_class=Response,
    responses={200: raw("application/octet-stream"), 304: {"description": "as before"}, **problems(404, 503)},
)
async def topology(request: Request, name: str) -> Response:
    """What a page needs to draw heads from their positions alone: a safetensors file, see docs/serve.md."""
    service = service_of(request)
    bundle = service.pipeline.bundle
    if name != bundle.manifest.name:
        raise Problem("not-found", "this model", got=repr(name)[:60], expected=bundle.manifest.name)
    data = await asyncio.to_thread(making.topology_bytes, bundle.topology)
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, max-age=0, must-revalidate"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="application/octet-stream", headers=headers)


@router.post(
    "/v1/faces",
    openapi_extra=body_of("image", None),
    responses=problems(400, 408, 413, 415, 429, 503, 504),
    response_model=schemas.Faces,
)
async def faces(request: Request) -> JSONResponse:
    """Find the faces of a picture. Where there is nobody, the list is empty."""
    service = open_desk(request)
    upload, _ = await read_upload(request, "image", schemas.NoOptions)
    await asyncio.to_thread(making.check_picture, upload.data)
    pipeline, job = service.pipeline, service.job()
    return JSONResponse(
        await work(request, service.desk, job, lambda: making.faces_of(pipeline, upload.data, job))
    )


@router.post(
    "/v1/heads",
    status_code=201,
    openapi_extra=body_of("image", schemas.Options),
    responses={
        201: {"model": schemas.Heads, "description": "the heads, and where their files are"},
        200: raw(GLB),
        **problems(400, 406, 408, 413, 415, 422, 429, 503, 504),
    },
    response_model=schemas.Heads,
)
async def heads(request: Request) -> Response:
    """Make heads of a picture. `Accept: model/gltf-binary` gets the file of the one head itself."""
    service = open_desk(request)
    as_glb = wants_glb(request)
    upload, options = await read_upload(request, "image", schemas.Options)
    if as_glb and (len(options.seeds) > 1 or options.face == "all"):
        raise Problem("bad-request", f"several heads as {GLB}", expected="one seed and one face, or JSON")
    await asyncio.to_thread(making.check_picture, upload.data)
    pipeline, job = service.pipeline, service.job()
    return await made(request, job, "portrait", lambda: making.heads_of(pipeline, upload.data, options, job))


@router.post(
    "/v1/retopologize",
    status_code=201,
    openapi_extra=body_of("scan", schemas.ScanOptions),
    responses={
        201: {"model": schemas.Heads, "description": "the head, and where its files are"},
        200: raw(GLB),
        **problems(400, 406, 408, 413, 415, 429, 501, 503, 504),
    },
    response_model=schemas.Heads,
)
async def retopologize(request: Request) -> Response:
    """Lay the model's topology over a scan, with the answers of POST /v1/heads."""
    service = open_desk(request)
    wants_glb(request)
    upload, options = await read_upload(request, "scan", schemas.ScanOptions)
    pipeline, job = service.pipeline, service.job()
    notes: list[str] = []
    task = partial(making.scan_of, pipeline, upload, options, job, notes)
    return await made(request, job, "scan", lambda: [task()], notes)


@router.get(
    "/v1/heads/{name}.{kind}",
    response_class=Response,
    responses={
        200: raw(*dict.fromkeys(kind.media_type for kind in KINDS.values())),
        **problems(400, 404, 410, 429, 501, 503, 504),
    },
)
async def head_file(
    request: Request, name: _Id, kind: _Kind, options: Annotated[FileOptions, Query()]
) -> Response:
    """A file of a kept head."""
    service = service_of(request)
    kept = found(service, name)
    if kind not in KINDS:
        expected = f"one of: {', '.join(KINDS)}"
        raise Problem("not-found", "this kind of file", got=repr(kind)[:40], expected=expected)

    def task() -> bytes:
        if kind == "glb" and options == AS_MADE and kept.glb is not None:
            return kept.glb()
        return written(kept.head(), kind, options)

    data = await work(request, service.files, service.job(), task)
    headers = {
        "Content-Disposition": f'attachment; filename="head.{KINDS[kind].suffix}"',
        "Cache-Control": "private, no-store",
    }
    return Response(data, media_type=KINDS[kind].media_type, headers=headers)


@router.get("/v1/heads/{name}", responses=problems(404, 410, 503), response_model=schemas.Head)
async def head(request: Request, name: _Id) -> JSONResponse:
    """What POST /v1/heads told of a head."""
    kept = found(service_of(request), name)
    return JSONResponse(told(name, kept.about, kept.expires))


@router.delete("/v1/heads/{name}", status_code=204, responses=problems(404, 410, 503))
async def drop(request: Request, name: _Id) -> Response:
    """Keep a head no longer."""
    service = service_of(request)
    found(service, name)
    await asyncio.to_thread(service.results.drop, name)
    return Response(status_code=204)


def found(service: Service, name: str) -> Kept:
    """Return a kept head. Raises Problem for a name that is no id, before it gets anywhere near a path."""
    results = service.results
    if not ID.fullmatch(name):
        raise unknown()
    return results.get(name)


@router.get("/healthz")
async def healthz() -> schemas.Health:
    """Whether the process answers."""
    return schemas.Health(status="ok", version=__version__)


@router.get("/readyz", responses=problems(500, 503))
async def readyz(request: Request) -> schemas.Ready:
    """Whether new work is taken: the model is loaded, and nobody has told the service to stop."""
    service = service_of(request)
    service.require_open()
    return schemas.Ready(status="ready", waiting=service.desk.waiting, running=service.desk.running)


@router.get("/metrics", response_class=Response, responses={200: raw("text/plain")})
async def metrics(request: Request) -> Response:
    """Counters for Prometheus."""
    return Response(service_of(request).metrics.exposition(), media_type=MEDIA_TYPE)


def open_desk(request: Request) -> Service:
    """Return the service, before a body is read. Raises Problem where that would be of no use."""
    service = service_of(request)
    service.require_open()
    service.desk.admit()
    return service
