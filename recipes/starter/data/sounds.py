"""Sounds that are not speech: fifty synthetic classes with names and descriptions. No recording is used.

`sound(name, rng)` draws one. With `judging` its parameters (pitch, tempo, decay, bands) lie in the part of their ranges
that training never draws, so that a class is recognised and not a sound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from recipes.starter.data.sound_parts import (
    Dial,
    Samples,
    drift,
    fading,
    finished,
    held,
    noise,
    phase,
    placed,
    rich,
    scattered,
    sine,
    slide,
    steady,
    struck,
    times,
    wobble,
)

SHORTEST, LONGEST = 1.5, 4.0  # seconds
BELL = (0.5, 1.0, 1.19, 1.5, 2.0, 2.74, 3.0, 4.1)  # partials of a church bell, from its hum upwards
BAR = (1.0, 2.76, 5.4)  # of a free bar
Maker = Callable[[Dial, float], Samples]


@dataclass(frozen=True)
class Kind:
    """A class of sounds: how it is described, and what makes one of so many seconds."""

    descriptions: tuple[str, ...]
    make: Maker


KINDS: dict[str, Kind] = {}


def kind(name: str, *descriptions: str) -> Callable[[Maker], Maker]:
    """Registers the maker of a class under its name."""

    def register(make: Maker) -> Maker:
        KINDS[name] = Kind(descriptions, make)
        return make

    return register


def sound(name: str, rng: np.random.Generator, *, judging: bool = False) -> Samples:
    """One sound of a class: float32 (n,) at 16 kHz, 1.5 to 4 seconds, with a peak of 0.9.

    Raises KeyError for a name that is not in KINDS.
    """
    dial = Dial(rng, judging)
    return finished(KINDS[name].make(dial, float(rng.uniform(SHORTEST, LONGEST))))


def repeated(dial: Dial, seconds: float, event: Samples, gap: float) -> Samples:
    """One event again and again, with a pause of `gap` seconds."""
    return placed(seconds, steady(dial, seconds, len(event) / 16_000 + gap, 0.0), lambda _: event)


def thud(dial: Dial, pitch: float, decay: float, rough: float) -> Samples:
    """A dull blow."""
    body = sine(slide(1.6 * pitch, pitch, 6 * decay), 6 * decay) * fading(6 * decay, decay)
    return body + rough * noise(dial, 6 * decay, 60, 2500, 0.5) * fading(6 * decay, decay / 3, 0.001)


def blip(start: float, stop: float, seconds: float) -> Samples:
    """A short sweep: a drop, a chirp."""
    return sine(slide(start, stop, seconds), seconds) * np.hanning(len(times(seconds)))


# Signals


@kind("beep", "a short electronic tone", "a single beep repeated")
def beep(dial: Dial, seconds: float) -> Samples:
    length = dial(0.12, 0.4)
    return repeated(dial, seconds, sine(dial(500, 2000), length) * held(length), dial(0.4, 1.0))


@kind("alarm clock", "an alarm clock that goes off", "four quick beeps again and again")
def alarm_clock(dial: Dial, seconds: float) -> Samples:
    pitch, apart = dial(1600, 2800), dial(0.09, 0.14)
    tone = rich(pitch, apart / 2, 3) * held(apart / 2, 0.004)
    four = placed(4 * apart, [k * apart for k in range(4)], lambda _: tone)
    return repeated(dial, seconds, four, dial(0.3, 0.6))


@kind("smoke alarm", "a piercing smoke detector", "a very high alarm")
def smoke_alarm(dial: Dial, seconds: float) -> Samples:
    length = dial(0.35, 0.6)
    return repeated(dial, seconds, rich(dial(2900, 3500), length, 2, 2.0) * held(length), dial(0.3, 0.5))


@kind("siren", "the wail of an emergency siren", "a siren slowly rising and falling")
def siren(dial: Dial, seconds: float) -> Samples:
    low = dial(450, 700)
    return rich(low * dial(1.8, 2.6) ** wobble(dial(0.2, 0.45), seconds), seconds, 5)


@kind("yelping siren", "a fast police siren", "a siren that yelps quickly")
def yelp(dial: Dial, seconds: float) -> Samples:
    low = dial(500, 800)
    return rich(low * dial(1.7, 2.4) ** wobble(dial(2.5, 5.0), seconds), seconds, 5)


@kind("two-tone siren", "a European ambulance", "a siren of two tones in turn")
def two_tone(dial: Dial, seconds: float) -> Samples:
    low, ratio = dial(380, 520), dial(1.2, 1.4)
    high = np.floor(times(seconds) / dial(0.4, 0.7)) % 2
    return rich(low * ratio**high, seconds, 6)


@kind("telephone ringing", "an old telephone rings", "the ring of a phone bell")
def telephone(dial: Dial, seconds: float) -> Samples:
    length = dial(0.7, 1.3)
    hammer = 0.5 + 0.5 * np.sign(np.sin(2 * np.pi * dial(18, 26) * times(length)))
    pitch = dial(900, 1500)
    ring = (sine(pitch, length) + sine(pitch * 1.27, length) + 0.5 * sine(pitch * 2.1, length)) * hammer
    return repeated(dial, seconds, ring * held(length), dial(0.5, 1.0))


@kind("dial tone", "the steady tone of a telephone line", "two low tones held together")
def dial_tone(dial: Dial, seconds: float) -> Samples:
    pitch = dial(330, 400)
    return sine(pitch, seconds) + sine(pitch * dial(1.2, 1.32), seconds)


@kind("busy signal", "the line is engaged", "a phone tone on and off")
def busy(dial: Dial, seconds: float) -> Samples:
    length, pitch = dial(0.35, 0.6), dial(430, 520)
    return repeated(dial, seconds, (sine(pitch, length) + sine(1.29 * pitch, length)) * held(length), length)


@kind("morse code", "dots and dashes of a telegraph", "a message in morse code")
def morse(dial: Dial, seconds: float) -> Samples:
    dot, pitch, starts, clock = dial(0.05, 0.1), dial(450, 900), [0.0], 0.0
    lengths = [dot * (1, 3)[dial.rng.integers(2)] for _ in range(80)]
    for length in lengths:
        clock += length + dot * (1, 1, 3)[dial.rng.integers(3)]
        starts.append(clock)
    return placed(seconds, starts[:-1], lambda k: sine(pitch, lengths[k]) * held(lengths[k], 0.004))


@kind("car horn", "a car honks", "the hooting of a car")
def car_horn(dial: Dial, seconds: float) -> Samples:
    length, pitch = dial(0.25, 0.9), dial(330, 480)
    blast = (rich(pitch, length, 14, 0.8) + rich(pitch * 1.26, length, 14, 0.8)) * held(length, 0.02)
    return repeated(dial, seconds, blast, dial(0.15, 0.6))


@kind("ship horn", "a foghorn", "the deep horn of a ship")
def ship_horn(dial: Dial, seconds: float) -> Samples:
    return rich(dial(75, 140), seconds, 24, 0.9) * held(seconds, dial(0.15, 0.4))


@kind("train whistle", "a steam whistle", "the whistle of an old train")
def train_whistle(dial: Dial, seconds: float) -> Samples:
    length, pitch = dial(0.6, 1.4), dial(420, 620)
    chord = sum(rich(pitch * ratio, length, 4, 1.2) for ratio in (1, 1.26, 1.5, 1.68))
    steam = 0.6 * noise(dial, length, 800, 5000)
    return repeated(dial, seconds, (chord + steam) * held(length, 0.06), dial(0.2, 0.5))


@kind("whistle", "somebody whistles", "a whistled tune")
def whistle(dial: Dial, seconds: float) -> Samples:
    length, base = dial(0.25, 0.5), dial(900, 1500)

    def note(_: int) -> Samples:
        pitch = base * 2 ** (dial.rng.integers(0, 8) / 12)
        bent = pitch * (1 + 0.012 * np.sin(2 * np.pi * 5.5 * times(length)))
        return (sine(bent, length) + 0.02 * noise(dial, length, 1000, 6000)) * held(length, 0.04)

    return placed(seconds, steady(dial, seconds, length * 1.05, 0.0), note)


@kind("referee's whistle", "a pea whistle", "the shrill whistle of a referee")
def referee(dial: Dial, seconds: float) -> Samples:
    length = dial(0.4, 1.0)
    trill = 1 + 0.03 * np.sign(np.sin(2 * np.pi * dial(28, 45) * times(length)))
    blow = sine(dial(2300, 3100) * trill, length) + 0.25 * noise(dial, length, 2000, 7000)
    return repeated(dial, seconds, blow * held(length, 0.02), dial(0.2, 0.6))


@kind("slide whistle up", "a tone that slides up", "a rising swoop")
def slide_up(dial: Dial, seconds: float) -> Samples:
    length, low = dial(0.5, 1.1), dial(350, 600)
    return repeated(dial, seconds, sine(slide(low, low * dial(3, 5), length), length) * held(length), 0.25)


@kind("slide whistle down", "a tone that slides down", "a falling swoop")
def slide_down(dial: Dial, seconds: float) -> Samples:
    length, low = dial(0.5, 1.1), dial(350, 600)
    return repeated(dial, seconds, sine(slide(low * dial(3, 5), low, length), length) * held(length), 0.25)


# Bells and other struck things


@kind("church bell", "a large bell tolls", "the tolling of a church bell")
def church_bell(dial: Dial, seconds: float) -> Samples:
    pitch, decay = dial(180, 420), dial(0.8, 1.8)
    return placed(seconds, steady(dial, seconds, dial(1.1, 1.9)), lambda _: struck(pitch, BELL, 3.0, decay))


@kind("hand bell", "a small bell is rung", "the ringing of a little bell")
def hand_bell(dial: Dial, seconds: float) -> Samples:
    pitch, decay = dial(1400, 2300), dial(0.12, 0.3)
    starts = steady(dial, seconds, dial(0.14, 0.26), 0.12)
    return placed(seconds, starts, lambda _: struck(dial.jitter(pitch, 0.003), (1, 2.1, 2.9), 0.8, decay))


@kind("doorbell", "somebody is at the door", "ding dong")
def doorbell(dial: Dial, seconds: float) -> Samples:
    pitch, apart, decay = dial(560, 760), dial(0.45, 0.7), dial(0.3, 0.6)
    pitches = (pitch, pitch / 1.26)
    return placed(seconds, [0.02, 0.02 + apart], lambda k: struck(pitches[k], (1, 2, 3.01), 2.0, decay))


@kind("wind chimes", "chimes that move in the wind", "many small tinkling tubes")
def wind_chimes(dial: Dial, seconds: float) -> Samples:
    base, decay = dial(1000, 1700), dial(0.3, 0.7)
    tubes = [base * 2 ** (step / 12) for step in (0, 2, 4, 7, 9, 12)]
    return placed(
        seconds, scattered(dial, seconds, dial(4, 9)),
        lambda _: dial.rng.uniform(0.2, 1) * struck(dial.rng.choice(tubes), BAR, 1.5, decay),
    )  # fmt: skip


@kind("gong", "a gong is struck", "a deep metallic crash that swells")
def gong(dial: Dial, seconds: float) -> Samples:
    pitch, decay = dial(70, 130), dial(1.0, 2.2)
    body = struck(pitch, (1, 1.52, 2.03, 2.69, 3.4, 4.2), seconds, 2 * decay)
    shimmer = noise(dial, seconds, 500, 4000, 0.5) * wobble(0.5 / seconds, seconds) ** 0.3
    return body + 0.5 * shimmer * fading(seconds, decay, dial(0.1, 0.3))


@kind("glasses clinking", "a toast", "glass touches glass")
def glasses(dial: Dial, seconds: float) -> Samples:
    pitch, decay = dial(2200, 3400), dial(0.1, 0.25)
    starts = steady(dial, seconds, dial(0.5, 1.0), 0.15)
    return placed(
        seconds, starts, lambda _: struck(dial.jitter(pitch, 0.1), (1, 1.32, 1.83, 2.1), 0.8, decay)
    )


@kind("xylophone", "a scale on a xylophone", "wooden bars played one after the other")
def xylophone(dial: Dial, seconds: float) -> Samples:
    base, apart, decay = dial(450, 900), dial(0.16, 0.32), dial(0.08, 0.16)
    steps = (0, 2, 4, 5, 7, 9, 11, 12)
    starts = steady(dial, seconds, apart, 0.01)
    return placed(seconds, starts, lambda k: struck(base * 2 ** (steps[k % 8] / 12), (1, 3.9), 0.6, decay))


@kind("knocking", "a knock on the door", "somebody knocks on wood")
def knocking(dial: Dial, seconds: float) -> Samples:
    pitch, decay, apart = dial(130, 260), dial(0.025, 0.05), dial(0.17, 0.3)
    starts = [start + k * apart for start in np.arange(0, seconds, 4.5 * apart) for k in range(3)]
    return placed(seconds, starts, lambda _: dial.jitter(1, 0.15) * thud(dial, pitch, decay, 0.8))


@kind("footsteps", "somebody walks", "steps on a hard floor")
def footsteps(dial: Dial, seconds: float) -> Samples:
    apart, low = dial(0.4, 0.65), dial(200, 500)

    def step(_: int) -> Samples:
        heel = noise(dial, 0.12, low, 3500, 0.6) * fading(0.12, 0.012, 0.001)
        return placed(0.25, [0.0, 0.09], lambda k: heel * (1, 0.5)[k])

    return placed(seconds, steady(dial, seconds, apart), step)


@kind("applause", "many people clap", "a clapping audience")
def applause(dial: Dial, seconds: float) -> Samples:
    decay, low = dial(0.008, 0.016), dial(600, 1100)
    claps = [noise(dial, 0.06, low, dial.jitter(3500, 0.4)) * fading(0.06, decay, 0.001) for _ in range(24)]
    starts = scattered(dial, seconds, dial(70, 150))
    return placed(seconds, starts, lambda k: claps[k % 24] * dial.rng.uniform(0.2, 1))


@kind("clock ticking", "the tick of a clock", "tick tock")
def clock_ticking(dial: Dial, seconds: float) -> Samples:
    pitch, apart = dial(1800, 3000), dial(0.38, 0.6)
    return placed(
        seconds, steady(dial, seconds, apart, 0.0),
        lambda k: struck(pitch * (1, 0.8)[k % 2], (1, 1.7, 2.2), 0.05, 0.006),
    )  # fmt: skip


@kind("typing", "somebody types on a keyboard", "the clatter of keys")
def typing(dial: Dial, seconds: float) -> Samples:
    low, decay = dial(900, 1800), dial(0.004, 0.009)
    return placed(
        seconds, scattered(dial, seconds, dial(7, 13)),
        lambda _: dial.rng.uniform(0.4, 1) * noise(dial, 0.05, low, 6500) * fading(0.05, decay, 0.0005),
    )  # fmt: skip


# Drums


@kind("bass drum", "the beat of a big drum", "deep drum beats")
def bass_drum(dial: Dial, seconds: float) -> Samples:
    pitch, decay = dial(45, 75), dial(0.1, 0.22)
    return placed(
        seconds, steady(dial, seconds, dial(0.4, 0.7), 0.0), lambda _: thud(dial, pitch, decay, 0.1)
    )


@kind("snare drum", "strokes on a snare drum", "a rattling drum")
def snare(dial: Dial, seconds: float) -> Samples:
    pitch, decay = dial(170, 240), dial(0.05, 0.1)

    def stroke(_: int) -> Samples:
        wires = noise(dial, 0.4, 1200, 7000) * fading(0.4, decay, 0.001)
        return wires + 1.2 * sine(pitch, 0.4) * fading(0.4, 0.04)

    return placed(seconds, steady(dial, seconds, dial(0.35, 0.6), 0.0), stroke)


@kind("drum roll", "a long roll on a drum", "very fast drumming")
def drum_roll(dial: Dial, seconds: float) -> Samples:
    low, decay, apart = dial(150, 300), dial(0.02, 0.04), dial(0.04, 0.06)
    swell = np.linspace(dial(0.2, 0.5), 1, len(times(seconds)))
    strokes = [noise(dial, 0.15, low, 4000, 0.4) * fading(0.15, decay, 0.001) for _ in range(8)]
    return swell * placed(seconds, steady(dial, seconds, apart, 0.08), lambda k: strokes[k % 8])


@kind("cymbal", "a crash on a cymbal", "the shimmer of a struck cymbal")
def cymbal(dial: Dial, seconds: float) -> Samples:
    low, decay = dial(2500, 4000), dial(0.3, 0.8)
    return placed(
        seconds, steady(dial, seconds, dial(1.0, 1.6)), lambda _: noise(dial, 2, low, 7600) * fading(2, decay)
    )  # fmt: skip


# Machines


def firing(dial: Dial, rate: float | Samples, seconds: float, high_hz: float) -> Samples:
    """The explosions of an engine, `rate` a second, over the noise of its moving parts."""
    cycles = phase(rate, seconds)
    pulses = np.exp(-8 * (cycles % 1)) * (1 + 0.2 * np.sin(np.pi * np.floor(cycles)))
    rough = noise(dial, seconds, 40, high_hz, 0.5)
    return (pulses - pulses.mean()) * (1.5 + rough) + 0.15 * rough


@kind("engine idling", "a motor runs slowly", "a diesel engine at rest")
def idling(dial: Dial, seconds: float) -> Samples:
    return firing(dial, dial(14, 28), seconds, dial(500, 1200))


@kind("engine revving", "a motorcycle speeds up", "a motor that races again and again")
def revving(dial: Dial, seconds: float) -> Samples:
    rate = dial(35, 55) * dial(2.5, 4) ** wobble(dial(0.4, 0.9), seconds)
    return firing(dial, rate, seconds, dial(1500, 3000))


@kind("helicopter", "the blades of a helicopter", "chopping rotor noise")
def helicopter(dial: Dial, seconds: float) -> Samples:
    beat = wobble(dial(9, 16), seconds) ** dial(3, 6)
    return noise(dial, seconds, 40, dial(500, 1200), 0.6) * beat + 0.08 * noise(dial, seconds, 100, 4000)


@kind("train on rails", "a train goes by", "wheels clack over the joints of rails")
def rails(dial: Dial, seconds: float) -> Samples:
    apart, gap = dial(0.5, 0.9), dial(0.1, 0.16)
    starts = [start + k * gap for start in np.arange(0, seconds, apart) for k in range(2)]
    clacks = placed(seconds, starts, lambda _: thud(dial, 180, 0.02, 1.2))
    return clacks + 0.25 * noise(dial, seconds, 40, dial(300, 600), 0.5)


@kind("vacuum cleaner", "a vacuum cleaner runs", "the whine of a household motor")
def vacuum(dial: Dial, seconds: float) -> Samples:
    return 0.5 * rich(dial(180, 320), seconds, 12, 0.7) + noise(dial, seconds, 300, dial(3000, 6000), 0.3)


@kind("sawing", "somebody saws wood", "strokes of a hand saw")
def sawing(dial: Dial, seconds: float) -> Samples:
    rate, teeth = dial(1.2, 2.2), dial(90, 170)
    stroke = np.abs(np.sin(np.pi * rate * times(seconds)))
    rasp = 0.6 + 0.4 * np.sign(np.sin(2 * np.pi * phase(teeth * (0.3 + stroke), seconds)))
    return noise(dial, seconds, 700, dial(4000, 7000)) * rasp * stroke**1.5


# Weather, water and fire


@kind("rain", "it is raining", "rain drops on leaves")
def rain(dial: Dial, seconds: float) -> Samples:
    low = dial(1500, 3000)
    drops = [noise(dial, 0.02, low, 7000) * fading(0.02, 0.003, 0.0005) for _ in range(16)]
    patter = placed(
        seconds, scattered(dial, seconds, dial(150, 350)), lambda k: drops[k % 16] * dial.rng.random()
    )  # fmt: skip
    return patter + 0.12 * noise(dial, seconds, 800, 7600)


@kind("wind", "the wind blows", "a howling storm")
def wind(dial: Dial, seconds: float) -> Samples:
    gust = drift(dial, seconds, dial(0.8, 1.6))
    howl = sine(dial(350, 600) * (0.7 + 0.6 * gust), seconds) * gust**2
    air = noise(dial, seconds, 60, dial(400, 900), 0.5)
    return air * (0.2 + gust) + 0.5 * howl * (0.6 + 0.4 * drift(dial, seconds, 9))


@kind("ocean waves", "waves on a beach", "the surf of the sea")
def ocean(dial: Dial, seconds: float) -> Samples:
    swell = wobble(dial(0.25, 0.5), seconds) ** 2
    deep = noise(dial, seconds, 60, dial(600, 1100), 0.4)
    return deep * (0.15 + swell) + noise(dial, seconds, 1500, 7000) * swell**2 * 0.6


@kind("thunder", "a thunderstorm", "a clap of thunder that rolls away")
def thunder(dial: Dial, seconds: float) -> Samples:
    rumble = noise(dial, seconds, 25, dial(110, 220), 0.3) * (0.3 + drift(dial, seconds, 6))
    crack = noise(dial, seconds, 100, 3000, 0.6) * fading(seconds, dial(0.1, 0.25), 0.01)
    return rumble * fading(seconds, dial(0.7, 1.5), 0.05) + 0.8 * crack


@kind("fire crackling", "a camp fire", "burning wood pops and crackles")
def fire(dial: Dial, seconds: float) -> Samples:
    pops = placed(
        seconds, scattered(dial, seconds, dial(12, 25)),
        lambda _: dial.rng.random() ** 2 * noise(dial, 0.04, 900, 7000) * fading(0.04, 0.004, 0.0005),
    )  # fmt: skip
    return 2 * pops + 0.12 * noise(dial, seconds, 40, dial(300, 700), 0.4)


@kind("dripping water", "a tap drips", "single drops fall into water")
def dripping(dial: Dial, seconds: float) -> Samples:
    pitch, length = dial(700, 1300), dial(0.04, 0.08)
    starts = steady(dial, seconds, dial(0.5, 1.0), 0.05)
    return placed(seconds, starts, lambda _: blip(dial.jitter(pitch, 0.06), 2.2 * pitch, length))


# Animals and bodies


@kind("bird chirping", "a bird sings", "quick chirps of a small bird")
def chirping(dial: Dial, seconds: float) -> Samples:
    base, length = dial(2600, 4200), dial(0.05, 0.1)
    starts = [start + 1.3 * k * length for start in np.arange(0, seconds, dial(0.5, 0.9)) for k in range(3)]
    return placed(seconds, starts, lambda k: blip(dial.jitter(base, 0.05), base * (1.4, 0.75)[k % 2], length))


@kind("cuckoo", "a cuckoo calls", "two notes falling by a third")
def cuckoo(dial: Dial, seconds: float) -> Samples:
    pitch, apart = dial(580, 760), dial(0.25, 0.36)
    starts = [start + k * apart for start in np.arange(0.02, seconds, 4 * apart) for k in range(2)]
    length = 0.75 * apart
    return placed(
        seconds, starts, lambda k: rich(pitch / (1, 1.24)[k % 2], length, 3, 2.5) * held(length, 0.04)
    )


@kind("crickets", "insects at night", "the chirring of a cricket")
def crickets(dial: Dial, seconds: float) -> Samples:
    pitch, apart = dial(3800, 5200), dial(0.3, 0.6)
    trill = sine(pitch, 0.16) * wobble(dial(28, 45), 0.16) * held(0.16, 0.02)
    return placed(seconds, steady(dial, seconds, apart), lambda _: trill)


@kind("bee buzzing", "an insect buzzes", "a bee flies around")
def buzzing(dial: Dial, seconds: float) -> Samples:
    pitch = dial(180, 260) * (0.93 + 0.14 * drift(dial, seconds, 5))
    return rich(pitch, seconds, 16, 0.7) * (0.4 + 0.6 * drift(dial, seconds, 3))


@kind("heartbeat", "a beating heart", "the double beat of a heart")
def heartbeat(dial: Dial, seconds: float) -> Samples:
    apart, pitch, decay = dial(0.7, 1.1), dial(38, 60), dial(0.035, 0.06)
    starts = [start + k * 0.3 * apart for start in np.arange(0, seconds, apart) for k in range(2)]
    return placed(seconds, starts, lambda k: (1, 0.7)[k % 2] * thud(dial, pitch, decay, 0.0))
