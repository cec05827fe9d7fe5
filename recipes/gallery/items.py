"""The items of the gallery: images, spoken clips and notes. File names describe their contents."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scene:
    """A picture: file name, the emoji in it (one or two), the place behind, and a colour if it was recoloured."""

    name: str
    subjects: tuple[str, ...]
    place: str
    colour: str | None = None


IMAGES = (
    # animals
    Scene("dog-on-meadow.jpg", ("🐕",), "meadow"),
    Scene("puppy-portrait.jpg", ("🐶",), "garden"),
    Scene("cat-at-home.jpg", ("🐈",), "warm room"),
    Scene("kitten-portrait.webp", ("🐱",), "lilac"),
    Scene("horse-on-meadow.jpg", ("🐎",), "meadow"),
    Scene("fish-in-the-sea.jpg", ("🐟",), "water"),
    Scene("tropical-fish.webp", ("🐠",), "water"),
    Scene("butterfly-in-garden.jpg", ("🦋",), "garden"),
    Scene("penguin-in-snow.jpg", ("🐧",), "snow"),
    Scene("lion-at-dusk.jpg", ("🦁",), "sand"),
    Scene("elephant.jpg", ("🐘",), "desert"),
    Scene("turtle-on-beach.jpg", ("🐢",), "beach"),
    Scene("owl-at-night.jpg", ("🦉",), "night"),
    Scene("frog.webp", ("🐸",), "lake"),
    # to eat and drink
    Scene("pizza-on-table.jpg", ("🍕",), "table"),
    Scene("red-apple.jpg", ("🍎",), "white table"),
    Scene("green-apple.png", ("🍏",), "peach"),
    Scene("banana.png", ("🍌",), "mint"),
    Scene("strawberry.jpg", ("🍓",), "garden"),
    Scene("hamburger.jpg", ("🍔",), "table"),
    Scene("cup-of-coffee.jpg", ("☕",), "table"),
    Scene("ice-cream-on-beach.jpg", ("🍦",), "beach"),
    Scene("birthday-cake.jpg", ("🎂",), "party"),
    # music and play
    Scene("guitar-on-stage.jpg", ("🎸",), "stage"),
    Scene("piano-keys.jpg", ("🎹",), "warm room"),
    Scene("trumpet.jpg", ("🎺",), "stage"),
    Scene("drum.png", ("🥁",), "lemon"),
    Scene("soccer-ball-on-grass.jpg", ("⚽",), "meadow"),
    Scene("balloon.jpg", ("🎈",), "sky"),
    Scene("wrapped-gift.jpg", ("🎁",), "party"),
    # going places
    Scene("bicycle-in-town.jpg", ("🚲",), "street"),
    Scene("red-car.jpg", ("🚗",), "street"),
    Scene("steam-train.webp", ("🚂",), "meadow"),
    Scene("airplane-in-the-sky.jpg", ("✈️",), "sky"),
    Scene("rocket-at-night.jpg", ("🚀",), "night"),
    Scene("helicopter.jpg", ("🚁",), "dawn"),
    Scene("sailboat.jpg", ("⛵",), "sea"),
    Scene("tractor-in-the-field.jpg", ("🚜",), "meadow"),
    # outside
    Scene("umbrella-in-the-rain.jpg", ("☔",), "rain"),
    Scene("snowman.jpg", ("⛄",), "snow"),
    Scene("tree-on-a-hill.jpg", ("🌳",), "meadow"),
    Scene("sunflower.jpg", ("🌻",), "sky"),
    Scene("rose.webp", ("🌹",), "slate"),
    Scene("cactus-in-desert.jpg", ("🌵",), "desert"),
    Scene("sun.jpg", ("☀️",), "sky"),
    Scene("moon-at-night.jpg", ("🌙",), "night"),
    Scene("rainbow.jpg", ("🌈",), "sky"),
    Scene("tent.jpg", ("⛺",), "camp"),
    # at home
    Scene("open-book.jpg", ("📖",), "white table"),
    Scene("alarm-clock.jpg", ("⏰",), "blue room"),
    Scene("mobile-phone.png", ("📱",), "lilac"),
    Scene("camera.jpg", ("📷",), "grey room"),
    Scene("key.webp", ("🔑",), "slate"),
    # two things
    Scene("dog-and-ball.jpg", ("🐕", "⚽"), "beach"),
    Scene("cat-and-fish.jpg", ("🐈", "🐟"), "blue room"),
    Scene("coffee-and-book.jpg", ("☕", "📖"), "white table"),
    Scene("bee-and-sunflower.jpg", ("🐝", "🌻"), "garden"),
    Scene("gift-and-balloon.jpg", ("🎁", "🎈"), "party"),
    Scene("pizza-and-guitar.jpg", ("🍕", "🎸"), "warm room"),
    # in another colour
    Scene("blue-strawberry.jpg", ("🍓",), "sand", "blue"),
    Scene("purple-car.jpg", ("🚗",), "street", "purple"),
    Scene("green-heart.webp", ("❤️",), "peach", "green"),
    Scene("purple-butterfly.jpg", ("🦋",), "garden", "purple"),
    Scene("pink-elephant.jpg", ("🐘",), "mint", "pink"),
)

# file name -> the words spoken
CLIPS = {
    "dog": "dog",
    "cat": "cat",
    "horse": "horse",
    "fish": "fish",
    "butterfly": "butterfly",
    "penguin": "penguin",
    "elephant": "elephant",
    "owl": "owl",
    "pizza": "pizza",
    "red-apple": "red apple",
    "banana": "banana",
    "strawberry": "strawberry",
    "birthday-cake": "birthday cake",
    "guitar": "guitar",
    "trumpet": "trumpet",
    "soccer-ball": "soccer ball",
    "bicycle": "bicycle",
    "automobile": "automobile",
    "airplane": "airplane",
    "rocket": "rocket",
    "sailboat": "sailboat",
    "umbrella-with-rain-drops": "umbrella with rain drops",
    "snowman": "snowman",
    "sunflower": "sunflower",
    "crescent-moon": "crescent moon",
    "rainbow": "rainbow",
    "alarm-clock": "alarm clock",
    "mobile-phone": "mobile phone",
}

NOTES = {
    "weekend-hike": "Two days in the mountains. We slept in the tent and counted the stars.",
    "grandmas-birthday": "Grandma turned eighty and blew out every candle on her birthday cake in one breath.",
    "lost-keys": "I have lost my keys again. Last time they were in the fridge.",
    "first-snow": "It snowed all night. The children built a snowman in front of the house.",
    "rainy-monday": "It poured all day, and I had left my umbrella on the bus.",
    "vet-on-tuesday": "Take the dog to the vet on Tuesday. He still barks at the postman.",
    "the-cat-sleeps": "The cat sleeps on the warm laundry and will not be moved.",
    "friday-dinner": "Friday is pizza night: tomato, mozzarella and a lot of basil.",
    "band-practice": "Band practice at seven. Bring the guitar and a spare string.",
    "cycling-to-work": "Twelve kilometres by bike this morning, and not one red light.",
    "holiday-flight": "Our plane to Lisbon leaves at noon. Be at the airport by ten.",
    "launch-day": "The rocket lifted off at dawn and was in space nine minutes later.",
    "summer-garden": "The sunflowers are taller than I am, and full of bees.",
    "at-the-aquarium": "Hundreds of fish in every colour, and one very old turtle.",
    "apple-harvest": "We picked apples until all the baskets were full.",
    "the-match": "We won the football match by one goal in the last minute.",
    "too-early": "The alarm went off at five. I turned it off and went back to sleep.",
    "book-club": "The book club meets on Thursday. Read to the end of chapter nine.",
    "new-phone": "My new phone takes better pictures than my old camera.",
    "riding-lesson": "At her first riding lesson the horse would not stop eating grass.",
    "sailing-trip": "Wind from the west, a white sail, and dolphins next to the boat.",
    "day-at-the-beach": "Ice cream, sandcastles and a sunburnt nose.",
    "at-the-zoo": "The elephants took a bath while the lions slept in the shade.",
    "coffee-break": "Nothing helps on a Monday morning like a cup of hot coffee.",
}
