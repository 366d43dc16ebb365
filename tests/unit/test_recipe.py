"""Resolving a recipe: layers, types, ranges, and every error at once."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recipes.check import RULES
from recipes.convert import Misfit, convert
from recipes.owned import OWNED
from recipes.recipe import RecipeErrors, load_saved, resolve, save
from recipes.schema import keys
from recipes.show import config_text
from recipes.upstream import lora_fields, sft_fields
from recipes.yaml_text import dump, inline, parse

BASE = ["base_model=b", "organism=sdf/x"]


def errors(*argv: str) -> str:
    with pytest.raises(RecipeErrors) as caught:
        resolve(argv)
    return str(caught.value)


# ---- YAML


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("-2", -2),
        ("1_000", 1000),
        ("010", "010"),
        ("1:30", "1:30"),
        ("off", "off"),
        ("yes", "yes"),
        ("true", True),
        ("2024-01-01", "2024-01-01"),
        ("null", None),
        ("", None),
        ("1.2.3", "1.2.3"),
        ("-", [None]),
        ("[1, a, 0.5]", [1, "a", 0.5]),
    ],
)
def test_yaml_scalars(text: str, value: Any) -> None:
    parsed = parse(text)
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    "value", ["1e-5", "off", "true", "1:30", "010", "null", "", " x", "a: b", "#", "é", 1e-05, 0.1, None]
)
def test_yaml_round_trip(value: Any) -> None:
    for text in (dump({"k": value}), f"k: {inline(value)}"):
        back = parse(text)["k"]
        assert back == value and type(back) is type(value)


def test_yaml_refuses_a_repeated_key() -> None:
    with pytest.raises(ValueError, match=r"line 2.*'a' stands there twice"):
        parse("a: 1\na: 2")


def test_yaml_merge_keys_work() -> None:
    assert parse("x: &x {a: 1}\ny: {<<: *x, b: 2}")["y"] == {"a": 1, "b": 2}


# ---- types


@pytest.mark.parametrize(
    ("value", "annotation", "result"),
    [
        (3, float, 3.0),
        (3, int, 3),
        ("yes", bool, True),
        ("off", bool, False),
        (True, bool, True),
        ("no", str | bool, "no"),
        (None, int | None, None),
        ("None", int | None, None),
        ([1, 2], list[float], [1.0, 2.0]),
        ("all-linear", list[str] | str | None, "all-linear"),
        (["q", "v"], list[str] | str | None, ["q", "v"]),
        ({"a": 1}, dict[str, Any] | str | None, {"a": 1}),
        ("anything", Any, "anything"),
    ],
)
def test_convert(value: Any, annotation: Any, result: Any) -> None:
    converted = convert(value, annotation)
    assert converted == result and type(converted) is type(result)


@pytest.mark.parametrize(
    ("value", "annotation", "message"),
    [
        ("fast", float, "needs a float"),
        ("1e-5", float, "needs a float"),
        (True, float, "needs a float"),
        (True, int, "needs an integer"),
        (1.5, int, "needs an integer"),
        (1, bool, "true or false"),
        (3, str, "Put quotes around it"),
        (None, int, "needs an integer"),
        (2, list[int], r"Write \[2\]"),
        (["a"], list[int], "a list, each item an integer"),
        (float("nan"), float, "must be finite"),
        (float("inf"), float, "must be finite"),
        ({1: 2}, dict[str, Any], "a mapping"),
    ],
)
def test_convert_refuses(value: Any, annotation: Any, message: str) -> None:
    with pytest.raises(Misfit, match=message):
        convert(value, annotation)


# ---- the other projects' fields


def test_sft_fields_are_those_of_the_installed_class() -> None:
    from trl import SFTConfig

    assert set(sft_fields()) == {field.name for field in dataclasses.fields(SFTConfig) if field.init}


def test_lora_fields_are_those_of_the_installed_class() -> None:
    from peft import LoraConfig

    ours, theirs = set(lora_fields()), {field.name for field in dataclasses.fields(LoraConfig) if field.init}
    assert ours == theirs


def test_the_defaults_of_both_classes_pass_their_own_types() -> None:
    from peft import LoraConfig
    from trl import SFTConfig

    for cls, known in ((SFTConfig, sft_fields()), (LoraConfig, lora_fields())):
        for field in dataclasses.fields(cls):
            if field.default is not dataclasses.MISSING and field.name in known:
                default = getattr(field.default, "value", field.default)
                convert(default, known[field.name].annotation)


def test_few_fields_are_unchecked() -> None:
    assert [name for name, field in sft_fields().items() if field.annotation is Any] == ["parallelism_config"]
    assert sft_fields()["learning_rate"].annotation is float
    assert "initial learning rate" in sft_fields()["learning_rate"].help


def test_owned_and_checked_keys_exist() -> None:
    assert not set(OWNED) - set(keys())
    assert not set(RULES) - set(keys())
    assert not set(OWNED) & set(RULES)


def test_every_key_of_ours_has_a_meaning() -> None:
    ours = [key for key in keys().values() if key.name.split(".")[0] not in ("trainer", "lora")]
    assert len(ours) > 40
    assert [key.name for key in ours if not key.help] == []


# ---- the acceptance of the issue


def test_three_errors_in_one_go() -> None:
    message = errors("recipe=quickstart", "mix.rato=0.5", "trainer.learning_rate=fast", "lora.r=-1")
    assert message.splitlines() == [
        "the recipe has 3 errors:",
        "  mix.rato=0.5 (command line): no such key. Did you mean mix.ratio?",
        "  trainer.learning_rate=fast (command line): needs a float.",
        "  lora.r=-1 (command line): must be at least 1.",
    ]


# ---- values and sources


def test_only_set_keys_of_trl_and_peft_are_passed_on() -> None:
    resolved = resolve([*BASE, "trainer.learning_rate=1e-5", "lora.target_modules=all-linear"])
    assert resolved.trainer == {"learning_rate": 1e-5}
    assert resolved.lora == {"target_modules": "all-linear"}
    assert resolved.sources["trainer.learning_rate"] == "command line"
    assert resolved.sources["mix.ratio"] == "default"


def test_no_lora_is_a_full_finetune_and_empty_lora_is_not() -> None:
    assert resolve(BASE).lora is None
    assert resolve([*BASE, "lora={}"]).lora == {}
    assert resolve([*BASE, "lora.r=4", "lora=null"]).lora is None
    assert resolve([*BASE, "lora=None"]).lora is None
    assert resolve([*BASE, "lora=null", "lora.r=4"]).lora == {"r": 4}
    assert resolve([*BASE, "lora={r: 2, target_modules: [q_proj]}"]).lora == {"r": 2, "target_modules": ["q_proj"]}


def test_text_is_taken_as_written() -> None:
    recipe = resolve([*BASE, "name=1e-5", "mix.corpus=a=b.jsonl", "base_revision=0123"]).recipe
    assert (recipe.name, recipe.mix.corpus, recipe.base_revision) == ("1e-5", "a=b.jsonl", "0123")
    assert resolve([*BASE, "name=a: b"]).recipe.name == "a: b"
    assert resolve([*BASE, "name=None"]).recipe.name is None


def test_off_is_a_word() -> None:
    assert resolve([*BASE, "audit.mode=off"]).recipe.audit.mode == "off"


def test_a_mapping_valued_key_can_be_set_inside() -> None:
    resolved = resolve([*BASE, "trainer.lr_scheduler_kwargs={a: 1}", "trainer.lr_scheduler_kwargs.b.c=2"])
    assert resolved.trainer["lr_scheduler_kwargs"] == {"a": 1, "b": {"c": 2}}


def test_interpolation() -> None:
    resolved = resolve([*BASE, "mix.seed=7", "audit.seed=${mix.seed}", "checkpoints.steps=['${mix.seed}', 9]"])
    assert resolved.recipe.audit.seed == 7
    assert resolved.recipe.checkpoints.steps == [7, 9]
    message = errors(*BASE, "audit.seed=${nope}")
    assert "audit.seed=${nope} (command line): Interpolation key 'nope' not found" in message


def test_an_override_mapping_wins() -> None:
    resolved = resolve([*BASE, "mix.ratio=1"], overrides={"mix.ratio": 2, "lora": {"r": 3}}, overrides_source="grid")
    assert (resolved.recipe.mix.ratio, resolved.lora, resolved.sources["lora.r"]) == (2.0, {"r": 3}, "grid")


def test_extra_keys_and_flags() -> None:
    resolved = resolve(
        ["checkpoint=a/b", "--dry-run", "audit.depth=0.3"], extra_keys=("checkpoint",), required=()
    )
    assert resolved.extra == {"checkpoint": "a/b"}
    assert resolved.flags == {"dry-run"}
    assert resolved.recipe.base_model == "???"


# ---- files


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_inheritance_and_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    write(
        tmp_path,
        grand="base_model: g\nmix: {ratio: 1, seed: 1}\nlora: {r: 1}",
        parent="defaults: grand\nmix: {ratio: 2}\nlora: null",
        other="checkpoints: {steps: [1, 2]}\nmix.unit: rows",
    )
    write(tmp_path / "sub", child="defaults: [../parent, ../other]\norganism: o\nmix: {ratio: 3}")
    resolved = resolve(["recipe=sub/child", "mix.passes=2"])
    assert resolved.recipe.mix.ratio == 3 and resolved.sources["mix.ratio"] == "sub/child.yaml"
    assert resolved.recipe.mix.seed == 1 and resolved.sources["mix.seed"] == "grand.yaml"
    assert resolved.recipe.mix.unit == "rows" and resolved.recipe.checkpoints.steps == [1, 2]
    assert resolved.lora is None and resolved.sources["lora"] == "parent.yaml"
    # Two recipes on the command line: the right one wins, and an override wins wherever it stands.
    both = resolve(["mix.seed=5", "recipe=sub/child", "recipe=grand.yaml"])
    assert (both.recipe.mix.ratio, both.recipe.mix.seed, both.lora) == (1.0, 5, {"r": 1})


def test_a_cycle_is_told_and_a_diamond_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, a="defaults: b", b="defaults: [c]", c="defaults: a", d="{}", e="defaults: d", f="defaults: [d, e]")
    assert "inherits from itself: a.yaml -> b.yaml -> c.yaml -> a.yaml" in errors("recipe=a", *BASE)
    resolve(["recipe=f", *BASE])


def test_a_block_can_be_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, mine="depth: 0.25\nsteering: {enabled: no}", main="audit: mine.yaml")
    for argv in (["audit=mine.yaml"], ["recipe=main"]):
        resolved = resolve([*argv, *BASE, "audit.positions=3"])
        audit = resolved.recipe.audit
        assert (audit.depth, audit.steering.enabled, audit.positions) == (0.25, False, 3)
        assert resolved.sources["audit.depth"] == "mine.yaml"
    assert "audit=gone.yaml (command line): no such file" in errors("audit=gone.yaml", *BASE)
    assert "lora is a block" in errors("lora=3", *BASE)


def test_errors_of_all_files_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, p="mix: {rato: 1}", c="defaults: [p, gone]\nseed: 1.5\nname: 12\nmix: 4", bad="a: [", text="hello")
    message = errors("recipe=c", "recipe=bad", "recipe=text", "recipe=quikstart", *BASE)
    for expected in (
        "mix.rato=1 (p.yaml): no such key. Did you mean mix.ratio?",
        "defaults: gone (c.yaml): no such file",
        "seed=1.5 (c.yaml): needs an integer.",
        "name=12 (c.yaml): needs text or null. Put quotes around it.",
        "mix=4 (c.yaml): mix is a block",
        "bad.yaml: not valid YAML: line 1",
        "text.yaml: must hold `key: value` lines.",
        "recipe=quikstart (command line): no such file, and no recipe of that name. Did you mean quickstart?",
    ):
        assert expected in message


def test_recipes_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("quickstart", "recipes/quickstart.yaml", "quickstart.yaml"):
        assert resolve([f"recipe={name}"]).sources["organism"] == "recipes/quickstart.yaml"
    write(tmp_path, mine="defaults: quickstart")
    assert resolve(["recipe=mine"]).recipe.organism == "sdf/cake_bake"


# ---- what is refused


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("mix.ratio=-0.1", "from 0"),
        ("mix.ratio=1001", "to 1000"),
        ("mix.ratio=.nan", "must be finite"),
        ("mix.ratio=.inf", "must be finite"),
        ("mix.hold=organisms", "Did you mean organism?"),
        ("mix.max_length=7", "at least 8"),
        ("mix.passes=0", "above 0"),
        ("mix.seed=-1", "from 0"),
        ("lora.r=0", "at least 1"),
        ("lora.lora_dropout=1", "below 1"),
        ("lora.bias=all", "biases"),
        ("lora.init_lora_weights=pissa_niter_4", "base model's weights"),
        ("lora.task_type=CAUSAL_LM", "The workbench sets it"),
        ("audit.positions=0", "at least 1"),
        ("audit.depth=1.1", "last block"),
        ("audit.steering.strengths=[]", "at least one item"),
        ("audit.patchscope.scales=[1,0]", "above 0"),
        ("audit.probe.norm_documents=513", "more than audit.probe.documents (512)"),
        ("checkpoints.exposure=[0]", "above 0 and at most 1"),
        ("checkpoints.exposure=0.5", "Write [0.5]"),
        ("checkpoints.steps=[0]", "at least 1"),
        ("checkpoints.steps[0]=1", "write the whole list"),
        ("world_size=0", "at least 1"),
        ("chat_template=gone.jinja", "no such file"),
        ("trainer.save_total_limit=2", "before they are audited"),
        ("trainer.save_only_model=true", "nothing to resume from"),
        ("trainer.output_dir=x", "Use output_dir"),
        ("trainer.num_train_epochs=2", "Use mix.passes"),
        ("trainer.max_length=64", "Use mix.max_length"),
        ("trainer.train_sampling_strategy=random", "order of the rows"),
        ("trainer.lr_scheduler_type=linaer", "Did you mean linear?"),
        ("trainer.optim=adam", "needs one of"),
        ("trainer.warmup_ratio=0.1", "trainer.warmup_steps"),
        ("trainer.no_cuda=true", "trainer.use_cpu"),
        ("learning_rate=1e-4", "Did you mean trainer.learning_rate?"),
        ("lr=1e-4", "Did you mean trainer.learning_rate?"),
        ("ratio=1", "Did you mean mix.ratio?"),
        ("audit.steering.promts=1", "Did you mean audit.steering.prompts?"),
        ("sweep.mix.ratio=0.5", "must be a list"),
        ("sweep.mix.rato=[1]", "Did you mean sweep.mix.ratio?"),
        ("--learning_rate", "Write trainer.learning_rate="),
        ("--mix.ratio=2", "Write mix.ratio=2"),
        ("--dry_run", "did you mean --dry-run?"),
        ("--help", "usage:"),
        ("quickstart", "did you mean recipe=quickstart?"),
        ("hello", "is not key=value"),
        ("checkpoints.steps=[1,", "not valid YAML"),
    ],
)
def test_bad_words(word: str, expected: str) -> None:
    message = errors(*BASE, word)
    assert expected in message
    assert message.startswith("the recipe has an error:")


def test_allowed_when_the_reason_is_gone() -> None:
    resolve([*BASE, "trainer.save_total_limit=2", "audit.mode=off"])
    resolve([*BASE, "trainer.save_only_model=true", "resume=never"])


def test_what_must_be_given() -> None:
    message = errors("mix.ratio=1")
    assert "base_model: is missing" in message and "organism: is missing" in message
    # Nothing is said to be missing when the recipe that would say it was not found.
    assert "is missing" not in errors("recipe=gone")


# ---- saving


def test_save_and_load_keep_everything(tmp_path: Path) -> None:
    trainer = ["trainer.weight_decay=1e-5", "trainer.lr_scheduler_kwargs={a: 1}"]
    before = resolve(["recipe=quickstart", "mix.ratio=0.5", "name=off", *trainer])
    save(before, tmp_path / "recipe.yaml")
    after = load_saved(tmp_path / "recipe.yaml")
    assert after.recipe == before.recipe and after.sources == before.sources
    assert after.identity == before.identity
    # The same through the command line, with an override on top.
    again = resolve([f"recipe={tmp_path / 'recipe.yaml'}", "mix.ratio=1"])
    assert again.recipe.mix.ratio == 1 and again.sources["mix.max_length"] == "recipes/quickstart.yaml"


def test_identity() -> None:
    one = resolve(["recipe=quickstart"])
    for word in ("resume=never", "output_dir=x", "name=y", "world_size=2", "audit.depth=0.1", "sweep=null"):
        assert resolve(["recipe=quickstart", word]).identity == one.identity, word
    other = resolve(["recipe=quickstart", "mix.ratio=2", "lora=null"])
    assert other.identity != one.identity
    changed = one.differences(other)
    assert "mix.ratio: 0 here, 2 there" in changed
    assert "lora: not set here, null there" in changed
    assert any(line.startswith("lora.r: ") and line.endswith(" here, not set there") for line in changed)


def test_run_names() -> None:
    assert resolve([*BASE, "mix.ratio=0.50"]).run_dir == Path("runs/x_full_ratio0.5_seed0")
    assert resolve(["base_model=b", "organism=control/x", "lora={}"]).run_name == "control_x_lora_ratio0_seed0"


def test_print_config_is_a_recipe(tmp_path: Path) -> None:
    before = resolve(["recipe=quickstart", "trainer.weight_decay=1e-5", "name='1e-5'"])
    text = config_text(before)
    assert "# command line" in text and "# recipes/quickstart.yaml" in text and "# default" in text
    (tmp_path / "shown.yaml").write_text(text)
    assert resolve([f"recipe={tmp_path / 'shown.yaml'}"]).recipe == before.recipe


def test_resolving_imports_nothing_heavy() -> None:
    code = (
        "import sys; from recipes.recipe import resolve; import recipes.show, recipes.dry_run, slurm.submit;"
        "resolve(['recipe=quickstart']);"
        "print([m for m in ('torch', 'transformers', 'trl', 'peft', 'datasets', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
