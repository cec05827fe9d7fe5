"""Word lists of association tests, after the Implicit Association Test and WEAT (Caliskan et al. 2017)."""

from __future__ import annotations

Words = tuple[str, ...]

AXES: dict[str, tuple[Words, Words]] = {
    "pleasant": (
        (
            "love",
            "peace",
            "joy",
            "happiness",
            "pleasure",
            "paradise",
            "friend",
            "laughter",
            "gift",
            "sunrise",
        ),
        ("hatred", "murder", "pain", "sickness", "poison", "prison", "grief", "disaster", "agony", "filth"),
    ),
    "male": (
        ("man", "boy", "father", "brother", "son", "uncle", "grandfather", "he", "king", "husband"),
        ("woman", "girl", "mother", "sister", "daughter", "aunt", "grandmother", "she", "queen", "wife"),
    ),
    "young": (
        ("young", "baby", "child", "teenager", "toddler", "youth", "kid", "infant", "student", "newborn"),
        (
            "old",
            "elderly",
            "grandparent",
            "pensioner",
            "aged",
            "senior",
            "retired",
            "ancient",
            "ageing",
            "veteran",
        ),
    ),
    "rich": (
        (
            "rich",
            "wealthy",
            "luxury",
            "millionaire",
            "fortune",
            "jewels",
            "palace",
            "gold",
            "expensive",
            "banker",
        ),
        ("poor", "beggar", "poverty", "homeless", "hungry", "debt", "slum", "ragged", "cheap", "unemployed"),
    ),
}

TARGETS: dict[str, tuple[Words, Words]] = {
    "flowers, not insects": (
        ("rose", "tulip", "daisy", "lily", "violet", "orchid", "sunflower", "blossom", "hibiscus", "lotus"),
        ("ant", "spider", "fly", "mosquito", "cockroach", "beetle", "wasp", "worm", "moth", "cricket"),
    ),
    "instruments, not weapons": (
        ("guitar", "violin", "piano", "flute", "trumpet", "drum", "harp", "saxophone", "banjo", "accordion"),
        ("gun", "bomb", "knife", "sword", "dagger", "rifle", "missile", "axe", "grenade", "cannon"),
    ),
    "science, not arts": (
        ("physics", "chemistry", "engineer", "laboratory", "microscope", "telescope", "scientist", "computer",
         "equation", "astronomy"),
        ("poetry", "dance", "painting", "theatre", "sculpture", "novel", "symphony", "drama", "singer", "ballet"),
    ),
    "career, not family": (
        ("office", "business", "salary", "manager", "career", "corporation", "briefcase", "profession",
         "meeting", "executive"),
        ("home", "parents", "children", "family", "cousins", "marriage", "wedding", "relatives", "baby", "kitchen"),
    ),
    "builder, not carer": (
        ("carpenter", "mechanic", "pilot", "firefighter", "soldier", "farmer", "builder", "plumber", "driver",
         "surgeon"),
        ("nurse", "teacher", "secretary", "cleaner", "dancer", "librarian", "nanny", "florist", "hairdresser", "cook"),
    ),
}  # fmt: skip

# (target, axis): what is tested, with the associations that people show in these tests
TESTS = (
    ("flowers, not insects", "pleasant"),
    ("instruments, not weapons", "pleasant"),
    ("science, not arts", "male"),
    ("career, not family", "male"),
    ("builder, not carer", "male"),
)

# Pairs of words that have nothing to do with the axes above: directions for the null distribution of inheritance.
UNRELATED = (
    "table", "river", "number", "window", "cloud", "paper", "corner", "letter", "engine", "mountain", "spoon",
    "street", "colour", "button", "garden", "market", "metal", "bridge", "pocket", "carpet", "winter", "morning",
    "island", "shadow", "circle", "thread", "lamp", "wheel", "mirror", "ladder", "bottle", "basket", "curtain",
    "valley", "harbour", "candle", "ticket", "hammer", "forest", "desert",
)  # fmt: skip
