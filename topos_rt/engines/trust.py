"""Which files of the engine cache are trusted: plans and compiled kernels are code that runs here.

Two things have to hold. The directory and the file belong to this user, or to root, and nobody else may write
to them. And the file carries a digest (HMAC-SHA256, RFC 2104) under a key that only this user can read. The
key is kept outside the cache, so the digest also protects a cache on storage where owners mean nothing: a
network share, a volume, an archive that was unpacked. Neither protects from a program that already runs as
this user, nor from root.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import hmac
import json
import os
import secrets
import stat
from pathlib import Path
from typing import Any

from topos_rt.errors import OutputError
from topos_rt.support.files import make_directories, write_atomic

KEY_ENVIRONMENT = "TOPOS_RT_CACHE_KEY"
PRIVATE = 0o600  # the mode of files
_KEY_BYTES = 32
_CONTEXT = b"topos_rt.engine\0"
_MAGIC = b"topos_rt.kernels/1\n"
_NO_KEY = f"set {KEY_ENVIRONMENT} to a file that only you can read"


class Untrusted(ValueError):
    """A file or directory that somebody else may have written."""


class Signed:
    """A dataclass whose last field, `digest`, is that of all the others."""

    def signed_part(self) -> bytes:
        """Return what `digest` is the digest of, with the name of what it describes."""
        record: Any = self
        plain = dataclasses.asdict(dataclasses.replace(record, digest=""))
        return json.dumps(plain, sort_keys=True).encode()


def fault(status: os.stat_result) -> str | None:
    """Return why a file or directory is not to be trusted, or None where it is."""
    if not hasattr(os, "geteuid"):  # Windows: the user's folders are the user's own
        return None
    if status.st_uid not in (os.geteuid(), 0):
        return f"it belongs to another user, {_name(status.st_uid)}"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others may write to it (mode {stat.S_IMODE(status.st_mode):03o})"
    return None


def read_private(path: Path, limit: int | None = None) -> bytes:
    """Read a plain file that only this user can have written, at most `limit` bytes of it.

    Raises Untrusted for any other file, also for a symbolic link, and OSError.
    """
    extra = ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY")  # O_NONBLOCK: a pipe must not block
    if path.is_symlink():
        raise Untrusted("it is a symbolic link")
    descriptor = os.open(path, os.O_RDONLY | sum(getattr(os, name, 0) for name in extra))
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(status.st_mode):
            raise Untrusted("it is a device or pipe")
        if told := fault(status):
            raise Untrusted(told)
        with open(descriptor, "rb", closefd=False) as file:
            return file.read() if limit is None else file.read(limit)
    finally:
        os.close(descriptor)


def digest(name: str, data: bytes) -> str:
    """Return the digest of a file's name and content that only this user can make, creating the key.

    Raises OutputError where there is no key and none can be made.
    """
    return _digest(_key(create=True), name, data)


def verify(name: str, data: bytes, found: str) -> None:
    """Raise Untrusted unless `found` is the digest of this user's key."""
    try:
        key = _key(create=False)
    except OutputError as error:
        raise Untrusted(f"there is no key to verify it with ({error})") from error
    if not hmac.compare_digest(_digest(key, name, data).encode(), found.encode("utf-8", "replace")):
        raise Untrusted("its digest was not made with the key of this user")


def read_signed(path: Path) -> bytes:
    """Read what `write_signed` wrote. Raises Untrusted, OSError."""
    data = read_private(path)
    size = len(_MAGIC) + 2 * hashlib.sha256().digest_size
    if not data.startswith(_MAGIC) or len(data) < size:
        raise Untrusted("it is not one of ours")
    verify(path.name, data[size:], data[len(_MAGIC) : size].decode("latin-1"))
    return data[size:]


def write_signed(path: Path, data: bytes) -> None:
    """Write a file with its digest before its content. Raises OutputError."""
    write_atomic(path, _MAGIC + digest(path.name, data).encode() + data, mode=PRIVATE)


def key_path() -> Path:
    """Return the file that keeps the key. Raises OutputError where this user has no home directory."""
    if named := os.environ.get(KEY_ENVIRONMENT):
        return Path(named)
    from platformdirs import user_state_path

    path = user_state_path("topos-rt", appauthor=False) / "engine-cache.key"
    if not path.is_absolute():  # platformdirs leaves "~" where nothing says what it is
        raise OutputError("the key of the engine cache", got="no home directory", fix=_NO_KEY)
    return path


def _key(create: bool) -> bytes:
    path = key_path()
    try:
        if create and not path.exists():
            _make(path)
        key = read_private(path, _KEY_BYTES)
    except (OSError, Untrusted) as error:
        raise OutputError(f"the key of the engine cache, {path}", got=_told(error), fix=_NO_KEY) from error
    if len(key) < _KEY_BYTES:
        raise OutputError(f"the key of the engine cache, {path}", got=f"{len(key)} bytes", fix="remove it")
    return key


def _make(path: Path) -> None:
    """Make the key, unless another process does so first: both then use the same."""
    make_directories(path.parent, 0o700)
    new = path.with_name(f"{path.name}.{secrets.token_hex(6)}")
    write_atomic(new, secrets.token_bytes(_KEY_BYTES), mode=PRIVATE)
    try:
        with contextlib.suppress(FileExistsError):
            os.link(new, path)
    except OSError:  # a file system without hard links
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def _digest(key: bytes, name: str, data: bytes) -> str:
    return hmac.new(key, _CONTEXT + name.encode() + b"\0" + data, hashlib.sha256).hexdigest()


def _told(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _name(uid: int) -> str:
    try:
        import pwd

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return str(uid)
