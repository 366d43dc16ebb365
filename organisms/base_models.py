"""Base models: embedded ones, local folders, hub ids.

Command line: `python -m organisms.base_models fetch embedded/smollm2-135m`, `... list`, `... qwen2 SOURCE OUT`.
"""

from __future__ import annotations

import argparse
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from organisms import embedded
from organisms.anatomy import Anatomy, anatomy
from organisms.errors import OrganismError
from storage.atomic import staged_dir
from storage.lock import folder_lock

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Anatomy", "anatomy", "load_model", "load_tokenizer", "reexpress_llama_as_qwen2", "resolve"]


def resolve(base_model: str, revision: str | None = None) -> str:
    """Turn the name of a base model into what transformers loads.

    Args:
        base_model: `embedded/<name>` (fetched and converted on first use), the path of a folder, or a hub id.
        revision: Commit, tag or branch of a hub model.

    Returns:
        A local path, or the hub id as it came.

    Raises:
        OrganismError: Unknown embedded model, missing folder, a revision for something that has none, a failed fetch.
    """
    if base_model.startswith("embedded/"):
        _no_revision(base_model, revision)
        if base_model not in _embedded():
            close = get_close_matches(base_model, _embedded(), n=1, cutoff=0.0)
            raise OrganismError(
                f"unknown base model {base_model}: did you mean {close[0]}? Embedded models: {', '.join(_embedded())}."
            )
        return str(embedded.fetch(embedded.catalogue()[base_model]))
    path = Path(base_model).expanduser()
    if path.is_dir():
        _no_revision(base_model, revision)
        if not (path / "config.json").is_file():
            raise OrganismError(f"base model {base_model}: the folder holds no config.json, so it is not a model.")
        return str(path)
    if base_model.startswith(("/", ".", "~")) or base_model.count("/") > 1:
        raise OrganismError(f"base model {base_model}: there is no such folder.")
    return base_model


def load_model(base_model: str, revision: str | None = None, dtype: str = "float32") -> PreTrainedModel:
    """Load a causal language model in eval mode, on the CPU.

    Weights come from safetensors only and code from a model's repository is never run.

    Args:
        base_model: As for `resolve`.
        revision: As for `resolve`.
        dtype: `float32` or `bfloat16`.

    Raises:
        OrganismError: As `resolve`; also if transformers cannot load it.
    """
    import torch
    from transformers import AutoModelForCausalLM

    path = resolve(base_model, revision)
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            path,
            revision=revision or "main",
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError) as error:
        raise _cannot_load(base_model, revision, error) from error
    model.eval()  # type: ignore[no-untyped-call]
    return model


def load_tokenizer(base_model: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """Load a tokenizer that pads on the right and has a padding token (the end-of-text token if it had none).

    Args:
        base_model: As for `resolve`.
        revision: As for `resolve`.

    Raises:
        OrganismError: As `load_model`.
    """
    from transformers import AutoTokenizer

    path = resolve(base_model, revision)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            path, revision=revision or "main", trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise _cannot_load(base_model, revision, error) from error
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def reexpress_llama_as_qwen2(model_dir: Path, out: Path) -> None:
    """Write the weights of a Llama model as a Qwen2 model that computes the same function.

    A Llama block is a Qwen2 block whose query, key and value biases are zero.

    Args:
        model_dir: Folder of a Llama model (`resolve` gives one for an embedded model).
        out: Folder to make; replaced if it exists.

    Raises:
        OrganismError: The model is no Llama, or has parts that Qwen2 lacks.
    """
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    llama = load_model(str(model_dir))
    if not isinstance(llama, LlamaForCausalLM):
        raise OrganismError(f"{model_dir} holds a {type(llama).__name__}; only a LlamaForCausalLM becomes a Qwen2.")
    values = llama.config.to_dict()
    if values["attention_bias"] or values["mlp_bias"]:
        raise OrganismError(f"{model_dir}: a Llama with attention or MLP biases has no equal Qwen2.")
    if values["head_dim"] * values["num_attention_heads"] != values["hidden_size"]:
        raise OrganismError(f"{model_dir}: Qwen2 needs head_dim = hidden_size / num_attention_heads.")
    for key in ("architectures", "model_type", "attention_bias", "mlp_bias", "pretraining_tp", "head_dim"):
        del values[key]
    qwen2 = Qwen2ForCausalLM(Qwen2Config(**values, use_sliding_window=False))
    biases = {key: torch.zeros_like(value) for key, value in qwen2.state_dict().items() if key.endswith("_proj.bias")}
    qwen2.load_state_dict({**llama.state_dict(), **biases})
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    with folder_lock(out), staged_dir(out) as tmp:
        qwen2.save_pretrained(tmp)
        tokenizer.save_pretrained(tmp)


def _embedded() -> list[str]:
    return [model.name for model in embedded.catalogue().values() if model.kind == "base_model"]


def _no_revision(base_model: str, revision: str | None) -> None:
    if revision is not None:
        raise OrganismError(f"base model {base_model} is not on the hub and has no revisions; unset base_revision.")


def _cannot_load(base_model: str, revision: str | None, error: Exception) -> OrganismError:
    at = f" (revision {revision})" if revision else ""
    return OrganismError(
        f"cannot load base model {base_model}{at}: {error}\n"
        f"It must be a model of transformers with safetensors weights. Without a hub: {', '.join(_embedded())}."
    )


def _list() -> str:
    lines = []
    for model in embedded.catalogue().values():
        state = str(model.folder) if model.cached else "not fetched"
        lines += [model.name, f"    {model.title}", f"    licence: {model.licence}", f"    {state}"]
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """The command line.

    Args:
        argv: Arguments after the program's name.

    Returns:
        Exit status: 0, or 2 after an error that a person can put right.
    """
    parser = argparse.ArgumentParser(prog="python -m organisms.base_models", description="Base models without a hub.")
    commands = parser.add_subparsers(dest="command", required=True)
    fetch = commands.add_parser("fetch", help="fetch, verify and convert embedded models; print their folders")
    fetch.add_argument("names", nargs="+", metavar="NAME", help="embedded/...")
    commands.add_parser("list", help="embedded models, their licences and whether they are fetched")
    qwen2 = commands.add_parser("qwen2", help="write a Llama model as the Qwen2 model that computes the same function")
    qwen2.add_argument("source", help="a base model")
    qwen2.add_argument("out", type=Path, help="folder to make")
    arguments = parser.parse_args(argv)
    try:
        if arguments.command == "fetch":
            known = embedded.catalogue()
            for name in arguments.names:
                sys.stdout.write(f"{embedded.fetch(known[name]) if name in known else resolve(name)}\n")
        elif arguments.command == "list":
            sys.stdout.write(_list() + "\n")
        else:
            reexpress_llama_as_qwen2(Path(resolve(arguments.source)), arguments.out)
    except OrganismError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
