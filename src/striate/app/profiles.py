"""`striate show paper`: a profile's switches beside the others', and its layers with their sizes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from striate.models.convnet import PROFILES
from striate.models.convnet.cifar import NAMES
from striate.models.convnet.named import named_net
from striate.models.convnet.shapes import count, parameters, training_flop

NETS = (*PROFILES, *NAMES)


def describe(name: str) -> dict[str, Any]:
    """A net's switches beside all profiles' (where it has any), and its layers."""
    classes = 1000 if name in PROFILES else 10
    spec = named_net(name, classes)
    layers = [
        {
            "layer": one.layer.name,
            "output": list(one.output),
            "parameters": one.parameters,
            "multiply_adds": one.products,
        }
        for one in count(spec)
    ]
    found: dict[str, Any] = {
        "net": name,
        "input": list(spec.input),
        "classes": classes,
        "parameters": parameters(spec),
        "training_gflop": round(training_flop(spec) / 1e9, 4),
        "layers": layers,
    }
    if name in PROFILES:
        found["switches"] = {profile: _plain(asdict(switches)) for profile, switches in PROFILES.items()}
    return found


def _plain(switches: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in switches.items()}
