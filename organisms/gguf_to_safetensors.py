"""Convert a GGUF model to a float32 safetensors folder: embedded.py starts it as `... FILE OUT`.

transformers can read a GGUF file but treats the result as quantised: it can be neither saved nor trained. So its
tensors are put into a fresh model of the same shape, once.
"""

import os
import sys
import threading
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def convert(source: Path, out: Path) -> None:
    """Write model and tokenizer of a GGUF file to the existing folder `out`.

    Args:
        source: The GGUF file.
        out: An existing folder.
    """
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    quantised = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    config = quantised.config
    del config.quantization_config
    # The reader leaves the GGUF's own name in the config, where a hub id belongs.
    config.__dict__.pop("_model_name_or_path", None)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    model.load_state_dict(quantised.state_dict())
    model.tie_weights()
    model.generation_config = quantised.generation_config
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def _end_with_parent() -> None:
    """A killed parent closes our standard input; going on would leave half a gigabyte that nobody wants."""

    def wait() -> None:
        sys.stdin.read()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    _end_with_parent()
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
