"""Readings of a simulated device: the vibration of a machine, as a pure function of device and time.

Each axis is the sum of
- an offset (gravity on z) and a slow daily drift, with the temperature of the hall;
- the machine's rotation and its harmonics, with a phase for each axis, and stronger in working hours;
- an occasional shock that decays within minutes;
- on each fifth machine, from noon to three o'clock UTC, a heavy workpiece: z steps up, and all axes turn harder;
- a little noise.
The same seed, device and moment give the same reading on every machine.
"""

import hashlib
import math
import struct
from functools import lru_cache

import msgspec

DAY_S = 86_400.0
GRAVITY = 9.81
TURNS_PER_S = (0.01, 0.05)
"""Rotation is slow, so that readings seconds apart show it."""
HARMONICS = (1.0, 0.45, 0.2)
"""Amplitudes of the rotation frequency and its multiples."""
SHOCK_SLOT_S = 900.0
SHOCK_PROBABILITY = 0.3
"""Probability of a shock in each slot."""
SHOCK_DECAY_S = 40.0
HEAVY_MACHINES = 5
"""Of this many machines, the first gets a heavy workpiece each day."""
HEAVY_S = (12 * 3600.0, 15 * 3600.0)
"""Its start and its end, after midnight UTC."""
HEAVY_STEP = 6.0
HEAVY_FACTOR = 2.0
NOISE = 0.15
_HASH_RANGE = 2**64


class Acceleration(msgspec.Struct, frozen=True):
    """The three axes at one moment, in m/s², rounded to the resolution of a 16-bit sensor."""

    x: float
    y: float
    z: float


def sample(seed: int, device: int, moment: float) -> Acceleration:
    """Return the device's reading at the moment, in seconds since 1970."""
    axes = (_axis(seed, device, axis, moment) for axis in range(3))
    return Acceleration(*(round(value, 3) for value in axes))


def _axis(seed: int, device: int, axis: int, moment: float) -> float:
    def trait(name: str, low: float, high: float) -> float:
        return low + (high - low) * _kept(seed, device, axis, name)

    is_heavy = _is_heavy(device, moment)
    offset = (GRAVITY + HEAVY_STEP * is_heavy) if axis == 2 else 0.0
    drift = trait("drift", 0.2, 1.0) * math.sin(math.tau * (moment / DAY_S + trait("drift phase", 0, 1)))
    strength = trait("strength", 1.0, 4.0) * _load(moment) * (HEAVY_FACTOR if is_heavy else 1.0)
    vibration = strength * _turning(seed, device, trait("phase", 0, math.tau), moment)
    noise = NOISE * (2 * _uniform(seed, device, axis, moment, "noise") - 1)
    return offset + drift + vibration + _shock(seed, device, axis, moment) + noise


def _is_heavy(device: int, moment: float) -> bool:
    start, end = HEAVY_S
    return device % HEAVY_MACHINES == 1 and start <= moment % DAY_S < end


def _turning(seed: int, device: int, phase: float, moment: float) -> float:
    low, high = TURNS_PER_S
    angle = math.tau * (low + (high - low) * _kept(seed, device, "turns")) * moment + phase
    return sum(part * math.sin(multiple * angle) for multiple, part in enumerate(HARMONICS, start=1))


def _load(moment: float) -> float:
    """Return the load of the machine: 1 at noon UTC, a third at midnight."""
    return 2 / 3 - 1 / 3 * math.cos(math.tau * moment / DAY_S)


def _shock(seed: int, device: int, axis: int, moment: float) -> float:
    slot, within = divmod(moment, SHOCK_SLOT_S)
    if _kept(seed, device, int(slot), "shock") >= SHOCK_PROBABILITY:
        return 0.0
    since = within - SHOCK_SLOT_S / 2 * _kept(seed, device, int(slot), "shock at")
    if since < 0:
        return 0.0
    force = 20 + 60 * _kept(seed, device, int(slot), "shock force")
    direction = 2 * _kept(seed, device, int(slot), axis, "shock direction") - 1
    return force * direction * math.exp(-since / SHOCK_DECAY_S)


def _uniform(*of: object) -> float:
    """Return a pseudorandom number in [0, 1) that depends only on the arguments."""
    digest = hashlib.blake2b(repr(of).encode(), digest_size=8).digest()
    return float(struct.unpack(">Q", digest)[0]) / _HASH_RANGE


_kept = lru_cache(maxsize=4096)(_uniform)
"""Numbers that many moments need: of a device, and of a slot."""
