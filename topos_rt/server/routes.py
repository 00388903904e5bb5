"""The routes over HTTP: models, faces, heads and their files, scans."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from topos_rt import __version__
from topos_rt.flow.settings import PRESETS
from topos_rt.head.mesh import HeadMesh
from topos_rt.server import making, schemas
from topos_rt.server.files import KINDS, expression_of, links_of, written
from topos_rt.server.metrics import MEDIA_TYPE
from topos_rt.server.openapi import GLB, body_of, problems, raw
from topos_rt.server.problems import Problem
from topos_rt.server.results import ID, unknown
from topos_rt.server.service import Service
from topos_rt.server.uploads import read_upload
from topos_rt.server.work import Job, first_of

T = TypeVar("T")
router = APIRouter()
_Id = Annotated[str, Path(pattern=f"^{ID.pattern}$", description="of an answer to POST /v1/heads")]


def service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def work(request: Request, job: Job, task: Callable[[], T]) -> T:
    """Run a task in a worker, unless the client leaves first: then it is told to stop."""
    service = service_of(request)

    async def left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    done = await first_of(asyncio.create_task(service.desk.run(job, task)), asyncio.create_task(left()))
    if done is None:
        raise Problem("deadline", "the client has gone")  # which nobody reads
    return done


def entry_of(service: Service, head: HeadMesh, kind: str) -> dict[str, Any]:
    """Keep a head, count it, and return what its client is told."""
    about: dict[str, Any] = {
        "seed": head.metadata.get("seed"),
        "face": None if head.face is None else head.face.facts(),
        "expression": {name: round(weight, 4) for name, weight in head.expression.items()},
        "vertices": len(head.positions),
        "warnings": list(head.metadata.get("warnings", ())),
        "timings": {stage: round(seconds, 4) for stage, seconds in head.timings.items()},
        "metadata": dict(head.metadata),
    }
    name = service.results.put(head, about)
    service.metrics.heads.labels(kind).inc()
    for stage, seconds in head.timings.items():
        service.metrics.stages.labels(stage).observe(seconds)
    expires = service.results.get(name).expires
    return {"id": name, **about, "links": links_of(name, head), "expires": round(expires, 1)}


def wants_glb(request: Request) -> bool:
    """Return whether the client takes the GLB itself rather than JSON. Raises Problem where it takes neither."""
    accepted = [
        part.partition(";")[0].strip().lower() for part in request.headers.get("accept", "*/*").split(",")
    ]
    for given in accepted:
        if given == GLB:
            return True
        if given in ("*/*", "application/*", "application/json", ""):
            return False
    raise Problem(
        "not-acceptable", "Accept", got=repr(", ".join(accepted))[:80], expected=f"application/json or {GLB}"
    )


def answer(service: Service, heads: list[HeadMesh], kind: str) -> Response:
    entries = [entry_of(service, head, kind) for head in heads]
    location = {"Location": f"/v1/heads/{entries[0]['id']}"} if entries else {}
    return JSONResponse({"heads": entries}, 201, headers=location)


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
    service, job = open_desk(request)
    upload, _ = await read_upload(request, "image", schemas.NoOptions)
    await asyncio.to_thread(making.check_picture, upload.data)
    pipeline = service.pipeline
    return JSONResponse(await work(request, job, lambda: making.faces_of(pipeline, upload.data, job)))


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
    service, job = open_desk(request)
    as_glb = wants_glb(request)
    upload, options = await read_upload(request, "image", schemas.Options)
    if as_glb and (len(options.seeds) > 1 or options.face == "all"):
        raise Problem("bad-request", f"several heads as {GLB}", expected="one seed and one face, or JSON")
    await asyncio.to_thread(making.check_picture, upload.data)
    pipeline = service.pipeline

    def task() -> tuple[list[HeadMesh], bytes]:
        made = making.heads_of(pipeline, upload.data, options, job)
        return made, written(made[0], "glb", 0, None, {}) if as_glb else b""

    made, glb = await work(request, job, task)
    if not as_glb:
        return answer(service, made, "portrait")
    service.metrics.heads.labels("portrait").inc()
    return Response(glb, media_type=GLB)


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
    service, job = open_desk(request)
    as_glb = wants_glb(request)
    upload, options = await read_upload(request, "scan", schemas.ScanOptions)
    pipeline = service.pipeline

    def task() -> tuple[HeadMesh, bytes]:
        made = making.scan_of(pipeline, upload, options, job)
        return made, written(made, "glb", 0, None, {}) if as_glb else b""

    made, glb = await work(request, job, task)
    if not as_glb:
        return answer(service, [made], "scan")
    service.metrics.heads.labels("scan").inc()
    return Response(glb, media_type=GLB)


@router.get(
    "/v1/heads/{name}.{kind}",
    response_class=Response,
    responses={
        200: raw(*dict.fromkeys(k.media_type for k in KINDS.values())),
        **problems(400, 404, 410, 429, 501, 503, 504),
    },
)
async def head_file(
    request: Request,
    name: str,
    kind: str,
    lod: Annotated[int, Query(ge=0, le=9, description="level of detail; 0 is the whole head")] = 0,
    morphs: Annotated[str, Query(max_length=2000, description="as --morphs of topos-rt generate")] = "all",
    expression: Annotated[
        str | None,
        Query(max_length=2000, description="photograph, neutral or NAME:WEIGHT,…: posed, without rig"),
    ] = None,
    units: Annotated[str, Query(max_length=2)] = "m",
    up: Annotated[str, Query(max_length=1)] = "y",
    rig: bool = True,
    parts: bool = True,
    quantize: bool = False,
) -> Response:
    """A file of a kept head."""
    service = service_of(request)
    if not ID.fullmatch(name):
        raise unknown(name)
    if kind not in KINDS:
        raise Problem(
            "not-found", "this kind of file", got=repr(kind)[:40], expected=f"one of: {', '.join(KINDS)}"
        )
    head = service.results.get(name).head
    weights = expression_of(expression, head)
    options = {"morphs": morphs, "units": units, "up": up, "rig": rig, "parts": parts, "quantize": quantize}
    job = service.job()
    data = await work(request, job, lambda: written(head, kind, lod, weights, options))
    shown = KINDS[kind]
    headers = {
        "Content-Disposition": f'attachment; filename="head.{shown.suffix}"',
        "Cache-Control": "private, no-store",
    }
    return Response(data, media_type=shown.media_type, headers=headers)


@router.get("/v1/heads/{name}", responses=problems(404, 410, 503))
async def head(request: Request, name: str) -> schemas.Head:
    """What POST /v1/heads told of a head."""
    service = service_of(request)
    if not ID.fullmatch(name):
        raise unknown(name)
    kept = service.results.get(name)
    return schemas.Head(
        id=name, **kept.about, links=links_of(name, kept.head), expires=round(kept.expires, 1)
    )


@router.delete("/v1/heads/{name}", status_code=204, responses=problems(404, 410, 503))
async def drop(request: Request, name: str) -> Response:
    """Keep a head no longer."""
    if not ID.fullmatch(name):
        raise unknown(name)
    service_of(request).results.drop(name)
    return Response(status_code=204)


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


def open_desk(request: Request) -> tuple[Service, Job]:
    """Return the service and a job, before a body is read. Raises Problem where neither would be of use."""
    service = service_of(request)
    service.require_open()
    service.desk.admit()
    return service, service.job()
