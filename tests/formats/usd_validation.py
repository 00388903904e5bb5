"""USD's own validators as judges."""

from __future__ import annotations

from typing import Any

from tests import needs


def validation(stage: Any) -> list[Any]:
    """Return what USD's own validators complain of; old wheels come without the plugins that do."""
    from pxr import Tf, Usd

    fix = "pip install 'usd-core>=26.8'"
    try:
        from pxr import UsdValidation

        validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    except (ImportError, Tf.ErrorException):
        validators = []
    found = needs.tool(f"the validators of USD {Usd.GetVersion()}", validators, fix)
    assert len(found) > 20
    return list(UsdValidation.ValidationContext(found).Validate(stage))
