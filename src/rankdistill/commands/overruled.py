"""Fields of a stage's trainer that another one overrules: which they are, and what decides in their place."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from rankdistill.errors import InputError
from rankdistill.runtime.folders import plain


def _above(steps: Any) -> bool:
    return isinstance(steps, int) and steps > 0


# field -> what decides in its place, which is a function of a stage's trainer, and how to set it
DECIDES = {
    "num_train_epochs": ("max_steps", lambda of: _above(of.get("max_steps")), "=-1"),
    "eval_steps": ("eval_strategy", lambda of: of.get("eval_strategy", "no") != "steps", "=steps"),
    "save_steps": ("save_strategy", lambda of: of.get("save_strategy", "no") != "steps", "=steps"),
}


def overruled(config: Mapping[str, Any], field: str) -> dict[str, str]:
    """Where ``field`` has no effect in the plain ``config`` of a run -> the full name of what decides there.

    ``trainer.num_train_epochs`` is where no stage is trained by it, ``warmup.trainer.num_train_epochs`` where
    that stage is not.
    """
    other, decides, _ = DECIDES[field]
    whole, found, places = config.get("trainer") or {}, {}, {}
    for stage in config["stages"]:
        settings = config.get(stage) or {}
        if not isinstance(settings, Mapping) or (stage == "warmup" and "loss" not in settings):
            continue  # warmup=none, or what is refused for another reason
        own = settings.get("trainer") or {}
        if not isinstance(own, Mapping):
            continue
        place = f"{stage}.trainer.{other}" if other in own else f"trainer.{other}"
        dead = decides({**whole, **own})
        if field in own:
            if dead:
                found[f"{stage}.trainer.{field}"] = place
        else:
            places[stage] = place if dead else None
    if field in whole and places and all(places.values()):
        found[f"trainer.{field}"] = " and ".join(dict.fromkeys(str(place) for place in places.values()))
    return found


def check_overruled(config: DictConfig, words: Sequence[str]) -> None:
    """Raises ``InputError`` if one of ``words``, overrides of ``config``, sets what another field decides."""
    if "stages" not in config or not OmegaConf.is_list(config.stages):
        return
    given = [name for word in words for name in _fields(word)]
    for field, (_, _, remedy) in DECIDES.items():
        if not any(name.endswith(f"trainer.{field}") for name in given):
            continue
        for name, places in overruled(plain(config), field).items():
            if name in given:
                values = {place: OmegaConf.select(config, place) for place in places.split(" and ")}
                said = " and ".join(
                    f"{place}={value}" for place, value in values.items() if value is not None
                )
                unset = " ".join(f"{place}{remedy}" for place in values)
                verb = "decides" if len(values) == 1 else "decide"
                raise InputError(
                    f"{name}: it changes nothing, as {said or places} {verb}; leave it out, or add {unset}"
                )


def _fields(word: str) -> list[str]:
    """The full names of the fields that an override sets to more than null."""
    name, _, value = word.lstrip("+~").partition("=")
    if not value.startswith("{"):
        return [] if value == "null" else [name]
    return _inner(name, OverridesParser.create().parse_override(f"x={value}").value())


def _inner(name: str, value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [full for key, part in value.items() for full in _inner(f"{name}.{key}", part)]
    return [] if value is None else [name]


def without_overruled(config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` less the fields of its trainers that another one overrules."""
    shown = dict(config)
    for field in DECIDES:
        for name in overruled(config, field):
            part, _, rest = name.partition(".")
            if part == "trainer":
                shown[part] = {key: value for key, value in shown[part].items() if key != rest}
            else:
                own = {key: value for key, value in shown[part]["trainer"].items() if key != field}
                shown[part] = {**shown[part], "trainer": own}
    return shown
