"""genotok: genomic language models that learn their own tokens, and variant scoring with them."""

from importlib import import_module

__version__ = "0.1.0"

# Names are resolved on first use, so that `genotok --help` does not pay for importing torch.
_LAZY = {
    "GenomicLM": "genotok.models",
    "ModelConfig": "genotok.models",
    "load_tokenizer": "genotok.tokenizers",
    "pretrained": None,
    "models": None,
}

__all__ = ["GenomicLM", "ModelConfig", "__version__", "load_tokenizer"]


def __getattr__(name: str):
    if name not in _LAZY:
        raise AttributeError(f"module 'genotok' has no attribute {name!r}")
    home = _LAZY[name]
    return import_module(f"genotok.{name}") if home is None else getattr(import_module(home), name)
