import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pytest
from omegaconf import OmegaConf

from rankdistill.errors import InputError, check_counts
from rankdistill.runtime.fields import check_fields, check_targets, fits

LISTED, MAPPED = OmegaConf.create([1]), OmegaConf.create({"a": 1})


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (3, int, True),
        (True, int, False),
        (2.0, int, False),
        ("3", int, False),
        (None, int, False),
        (None, int | None, True),
        (3, float, True),
        (float("nan"), float, False),
        (False, bool, True),
        (1, bool, False),
        ("a", str, True),
        (5, str | None, False),
        ("any", Literal["mid", "ends"], True),
        (5, Literal["mid", "ends"], False),
        ("match", float | Literal["match"], True),
        (LISTED, Sequence[str], True),
        ("one", Sequence[str], True),
        (5, Sequence[str], False),
        (MAPPED, Mapping[str, float], True),
        (LISTED, Mapping[str, float], False),
        (MAPPED, object, True),
        ("x", Any, True),
    ],
)
def test_values_of_a_yaml_file_fit_what_a_signature_declares(value, kind, expected):
    assert fits(value, kind) is expected


def test_the_field_is_named_in_full_however_deep_it_is():
    config = OmegaConf.create(
        {
            "loss": {
                "losses": {"kl": {"_target_": "rankdistill.losses.KLDivergence", "teacher_temperature": "x"}}
            }
        }
    )
    with pytest.raises(InputError, match="loss.losses.kl.teacher_temperature='x': it must be a number"):
        check_targets(config)


def test_fields_without_a_target_are_checked_by_name():
    config = OmegaConf.create({"seed": 1.5, "scores": None})
    with pytest.raises(InputError, match="seed=1.5: it must be an integer"):
        check_fields(config, {"seed": int})
    with pytest.raises(InputError, match="scores.scale=None: it must be a number"):
        check_fields(config, {"scores.scale": float})


def test_a_count_is_named_unless_it_is_an_integer_of_1_or_more():
    check_counts(n=1, of_numpy=np.int64(3), limit=None)
    for wrong in (0, -2, 1.5, float("nan"), True, "3", [1]):
        with pytest.raises(InputError, match=f"n={re.escape(repr(wrong))}: it must be 1 or more, an integer"):
            check_counts(limit=None, n=wrong)


def test_a_target_that_is_nowhere_is_named_with_the_remedy():
    with pytest.raises(InputError, match=r"sampler\._target_: nowhere\.X cannot be found: .*PYTHONPATH"):
        check_targets(OmegaConf.create({"sampler": {"_target_": "nowhere.X"}}))
