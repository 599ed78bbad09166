"""Every net by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from striate.errors import BadInput
from striate.models.convnet.cifar import NAMES, cifar_net
from striate.models.convnet.layers import NetSpec
from striate.models.convnet.profiles import PROFILES, alexnet, profile


def named_net(
    name: str, classes: int, switches: Mapping[str, object] | None = None, crop: int | None = None, channels: int = 3
) -> NetSpec:
    """A profile of AlexNet with switches changed, or one of the nets for CIFAR-10.

    Args:
        name: `paper`, `source`, `half`, `one-gpu`, `caffenet`, `six-conv`, or `80sec`, `18pct`, ...
        classes: units of the last layer.
        switches: changes of a profile's.
        crop: edge of the crops it sees, where not the net's own.
        channels: of the pictures.

    Raises:
        BadInput: there is no such net or switch.
    """
    if name in NAMES:
        if switches:
            raise BadInput(f"model.switches belong to {', '.join(PROFILES)}: {name} has none")
        return cifar_net(name, classes, crop, channels)
    if name not in PROFILES:
        nearest = difflib.get_close_matches(name, [*PROFILES, *NAMES], 1, 0.4)
        hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join([*PROFILES, *NAMES])}"
        raise BadInput(f"no net {name!r}: {hint}")
    if channels != 3:
        raise BadInput(f"{name} takes colour pictures, these have {channels} channel: import them with --mode rgb")
    return alexnet(profile(name, dict(switches or {})), classes, name, crop)
