"""Paint with the released weights as they are, in PyTorch, which runs in a process of its own.

This package does not import PyTorch. `python -m export paint --serve`, of the sources of this package, loads
the user's copy of the weights and paints by the release's own loop; portraits and maps go through files, and
lines of JSON say what is done.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from topos_rt import errors
from topos_rt.errors import BackendError, InputError, MissingExtraError, OptionError, ToposError
from topos_rt.flow.settings import check_seed
from topos_rt.support.closing import Closing
from topos_rt.texture.official.manifest import METAHUMAN, LayoutSpec
from topos_rt.texture.official.painter import PAINTING, PREPARING, Painted, Report

_SOURCES = Path(__file__).parents[3]
_WAIT_S = 20  # for a process that was asked to end
_TOLD = 500  # characters of its last words that a message quotes
_BUNDLE_INSTEAD = "make a texture bundle with python -m export texture, and name that with --official"


@dataclass(frozen=True)
class Release:
    """The user's copies, and what of the release's way is changed."""

    base: Path
    lora: Path | None = None
    prompts: Path | None = None  # the release's script, or JSON; embedded for each portrait
    embeddings: Path | None = None  # stored prompts
    steps: int = 50
    guidance: float = 1.2
    size: int = 1024
    device: str = "cuda"
    dtype: str = "bf16"

    def words(self) -> list[str]:
        """Return the arguments of `python -m export paint`. Raises OptionError without prompts."""
        if (self.prompts is None) == (self.embeddings is None):
            raise OptionError(
                "prompts of the texture stage",
                got="both of them" if self.prompts else "neither",
                expected="--prompts FILE, the release's script, or --embeddings FILE",
            )
        given = {
            "official": self.base.absolute(),
            "lora": self.lora and self.lora.absolute(),
            "prompts": self.prompts and self.prompts.absolute(),
            "embeddings": self.embeddings and self.embeddings.absolute(),
            "steps": self.steps,
            "guidance": self.guidance,
            "size": self.size,
            "device": self.device,
            "dtype": self.dtype,
        }
        return [
            word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))
        ]


class OutsidePainter(Closing):
    """A `Painter` that asks a process in which PyTorch runs. Not safe to use from several threads at once."""

    def __init__(self, release: Release) -> None:
        """Prepare; the process is started, and the weights loaded, for the first portrait.

        Raises OptionError without prompts, MissingExtraError where the sources are not at hand.
        """
        self._words = [sys.executable, "-m", "export", "paint", "--serve", *release.words()]
        self._release = release
        if not (_SOURCES / "export" / "texture").is_dir():
            raise MissingExtraError(
                "the released texture stage in PyTorch",
                got="an installed topos_rt, which has no exporter",
                expected="the sources of topos_rt, with the extra 'texture'",
                fix=f"in a checkout, run pip install -e '.[texture]'; or {_BUNDLE_INSTEAD}",
            )
        self._process: subprocess.Popen[str] | None = None
        self._words_said: IO[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def layout(self) -> LayoutSpec:
        """See `Painter.layout`."""
        return METAHUMAN

    def paint(self, picture: Image.Image, seed: int = 0, report: Report | None = None) -> Painted:
        """See `Painter.paint`. What `report` raises ends the process; the next portrait starts another."""
        seed = check_seed(seed)
        try:
            return self._paint(picture, seed, report)
        except BaseException:
            self.close()
            raise

    def _paint(self, picture: Image.Image, seed: int, report: Report | None) -> Painted:
        if report is not None:
            report(PREPARING, 0, 1)
        process, folder = self._started()
        given, made = folder / "portrait.png", folder / "map.png"
        picture.save(given, "PNG")
        assert process.stdin is not None and process.stdout is not None
        asked = {"picture": str(given), "out": str(made), "seed": seed}
        with suppress(BrokenPipeError):  # it has ended, and its last line says why
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
        for line in process.stdout:
            told = _object(line)
            if "error" in told:
                raise _error(told)
            if "painted" in told:
                break
            if "done" in told and report is not None:
                report(PAINTING, int(told["done"]), int(told["count"]))
        else:
            raise self._ended(process)
        with Image.open(made, formats=("PNG",)) as opened:
            albedo = np.array(opened.convert("RGB"))
        release = self._release
        facts = {
            "size": len(albedo),
            "seed": seed,
            "steps": release.steps,
            "solver": "euler",
            "guidance": release.guidance,
            "evaluations": release.steps * (2 if release.guidance > 1 else 1),
            "precision": release.dtype,
            "weights": f"the user's copy of {release.base.name}",
        }
        return Painted(albedo, facts)

    def _started(self) -> tuple[subprocess.Popen[str], Path]:
        if self._process is None or self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="topos_rt-")
            self._words_said = tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes it
            self._process = subprocess.Popen(
                self._words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._words_said,
                cwd=_SOURCES,
                env={**os.environ, "HF_HUB_OFFLINE": "1"},  # nothing is downloaded
                text=True,
                encoding="utf-8",
            )
        return self._process, Path(self._folder.name)

    def _ended(self, process: subprocess.Popen[str]) -> BackendError:
        """Return the error for a process that ended without an answer."""
        code = process.wait()
        said = self._words_said
        assert said is not None
        said.seek(max(0, said.seek(0, os.SEEK_END) - _TOLD))
        last = said.read().decode("utf-8", "replace").strip().splitlines()[-1:] or ["nothing said"]
        got = "no memory was left for it (it was killed)" if code == -9 else f"exit code {code}: {last[0]}"
        return BackendError("the released texture stage in PyTorch ended", got=got, fix=_BUNDLE_INSTEAD)

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(OSError):
                process.kill()
            process.communicate(timeout=_WAIT_S)
        if self._words_said is not None:
            self._words_said.close()
            self._words_said = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def _object(line: str) -> dict[str, Any]:
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _error(told: dict[str, Any]) -> ToposError:
    """Return the error that the other process reports, of the same class."""
    kind = getattr(errors, str(told["error"]), None)
    found = kind if isinstance(kind, type) and issubclass(kind, ToposError) else InputError
    return found(str(told.get("what")), **{part: told.get(part) for part in ("got", "expected", "fix")})
