"""Settings laid over each other: the last one wins, and a block can be switched off and on."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recipes.convert import allows_dict
from recipes.errors import Problem
from recipes.layers import Setting
from recipes.schema import CONTROL_RATIOS, OPEN_BLOCKS, defaults, keys, nest
from recipes.suggest import suggest


def merge(settings: Sequence[Setting], extra_keys: Collection[str], problems: list[Problem]) -> dict[str, Setting]:
    """One setting per key.

    Args:
        settings: Weakest first.
        extra_keys: Keys of the entry point, for suggestions.
        problems: Unknown keys are added here, also those that a later setting would cover.

    Returns:
        Key -> its setting. `lora` and `sweep` stand there as null or `{}` when that is all there is.
    """
    merged: dict[str, Setting] = {}
    for setting in settings:
        block = setting.key.split(".")[0]
        if setting.key in (*OPEN_BLOCKS, "sweep"):
            _lay_block(setting, merged)
        elif (field := _field_of(setting.key)) is not None:
            merged.pop(block, None)
            if field != setting.key:
                setting = _inside(field, setting, merged)
            # Moved to the end, so that mistakes are told in the order in which they were written.
            merged.pop(field, None)
            merged[field] = setting
        else:
            problems.append(Problem(setting.written, setting.source, _unknown(setting.key, extra_keys)))
    return merged


def interpolate(merged: dict[str, Setting], problems: list[Problem]) -> dict[str, Setting]:
    """`${mix.seed}` and the like, replaced by what they stand for.

    Args:
        merged: Key -> its setting.
        problems: What cannot be resolved is added here.

    Returns:
        Key -> its setting, without those that cannot be resolved.
    """
    if not any("${" in str(setting.value) for setting in merged.values()):
        return merged
    values = defaults() | {key: setting.value for key, setting in merged.items()}
    tree = OmegaConf.create(nest(values))
    done: dict[str, Setting] = {}
    for key, setting in merged.items():
        if "${" not in str(setting.value):
            done[key] = setting
            continue
        try:
            value = OmegaConf.select(tree, key, throw_on_resolution_failure=True)
            value = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        except OmegaConfBaseException as error:
            problems.append(Problem(setting.written, setting.source, f"{str(error).splitlines()[0]}."))
        else:
            done[key] = replace(setting, value=value, text=None)
    return done


def _lay_block(setting: Setting, merged: dict[str, Setting]) -> None:
    inside = [key for key in merged if key.startswith(f"{setting.key}.")]
    if setting.value is None:
        for key in inside:
            del merged[key]
    if setting.value is None or not inside:
        merged[setting.key] = setting


def _field_of(key: str) -> str | None:
    """The key itself, or the mapping-valued key that it goes into; None if there is neither."""
    head, _, axis = key.partition(".")
    if head == "sweep":
        return key if axis == CONTROL_RATIOS or axis in keys() or axis in OPEN_BLOCKS else None
    if key in keys():
        return key
    outer = next((name for name in keys() if key.startswith(f"{name}.")), None)
    return outer if outer and allows_dict(keys()[outer].annotation) else None


def _inside(field: str, setting: Setting, merged: dict[str, Setting]) -> Setting:
    """`setting`, whose key lies inside the mapping of `field`, as a setting of `field`."""
    before = merged[field].value if field in merged else {}
    root: dict[str, Any] = dict(before) if isinstance(before, dict) else {}
    *path, last = setting.key.removeprefix(f"{field}.").split(".")
    node = root
    for part in path:
        inner = node.get(part)
        node[part] = dict(inner) if isinstance(inner, dict) else {}
        node = node[part]
    node[last] = setting.value
    return Setting(field, root, setting.source)


def _unknown(key: str, extra_keys: Collection[str]) -> str:
    in_sweep = key.startswith("sweep.")
    close = suggest(key.removeprefix("sweep."), extra_keys)
    if "[" in key:
        return "no such key. Items of a list cannot be set one by one: write the whole list."
    if in_sweep and close is None:
        return f"no such setting to sweep over. Entries of sweep are dotted keys and {CONTROL_RATIOS}."
    advice = f"Did you mean {'sweep.' if in_sweep else ''}{close}?" if close else "All keys: python -m recipes.keys"
    return f"no such key. {advice}"
