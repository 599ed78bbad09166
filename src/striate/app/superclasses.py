"""CIFAR-100's structure: twenty superclasses of five classes each (Krizhevsky 2009, appendix D)."""

from __future__ import annotations

_CIFAR100 = {
    "aquatic mammals": "beaver, dolphin, otter, seal, whale",
    "fish": "aquarium fish, flatfish, ray, shark, trout",
    "flowers": "orchid, poppy, rose, sunflower, tulip",
    "food containers": "bottle, bowl, can, cup, plate",
    "fruit and vegetables": "apple, mushroom, orange, pear, sweet pepper",
    "household electrical devices": "clock, keyboard, lamp, telephone, television",
    "household furniture": "bed, chair, couch, table, wardrobe",
    "insects": "bee, beetle, butterfly, caterpillar, cockroach",
    "large carnivores": "bear, leopard, lion, tiger, wolf",
    "large man-made outdoor things": "bridge, castle, house, road, skyscraper",
    "large natural outdoor scenes": "cloud, forest, mountain, plain, sea",
    "large omnivores and herbivores": "camel, cattle, chimpanzee, elephant, kangaroo",
    "medium-sized mammals": "fox, porcupine, possum, raccoon, skunk",
    "non-insect invertebrates": "crab, lobster, snail, spider, worm",
    "people": "baby, boy, girl, man, woman",
    "reptiles": "crocodile, dinosaur, lizard, snake, turtle",
    "small mammals": "hamster, mouse, rabbit, shrew, squirrel",
    "trees": "maple tree, oak tree, palm tree, pine tree, willow tree",
    "vehicles 1": "bicycle, bus, motorcycle, pickup truck, train",
    "vehicles 2": "lawn mower, rocket, streetcar, tank, tractor",
}
CIFAR100: dict[str, str] = {name: coarse for coarse, names in _CIFAR100.items() for name in names.split(", ")}
"""Class -> superclass."""


def superclasses_of(names: list[str]) -> dict[str, str]:
    """Superclasses of classes that are all among CIFAR-100's; empty where any is not."""
    plain = {name: " ".join(name.lower().replace("_", " ").split()) for name in names}
    if not all(one in CIFAR100 for one in plain.values()):
        return {}
    return {name: CIFAR100[one] for name, one in plain.items()}
