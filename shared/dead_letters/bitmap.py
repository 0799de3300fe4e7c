"""A set of small numbers as a bitmap: n is in the set if bit n % 8 of byte n // 8 is 1.

It represents the refused elements of a message, in at most 1,250 bytes for an array of 10,000 elements.
"""

from collections.abc import Iterable, Iterator


def of(members: Iterable[int]) -> bytes:
    """Return the set of these numbers."""
    bits = bytearray()
    for number in members:
        byte = number >> 3
        if byte >= len(bits):
            bits.extend(bytes(byte + 1 - len(bits)))
        bits[byte] |= 1 << (number & 7)
    return bytes(bits)


def contains(bits: bytes, number: int) -> bool:
    """Return whether the number is in the set."""
    byte = number >> 3
    return byte < len(bits) and bool(bits[byte] & 1 << (number & 7))


def numbers(bits: bytes) -> Iterator[int]:
    """Return the numbers in the set, in order."""
    return (number for number in range(8 * len(bits)) if contains(bits, number))


def ranges(bits: bytes) -> list[tuple[int, int]]:
    """Return the set as ranges of consecutive numbers, each as its first and last number."""
    found: list[tuple[int, int]] = []
    for number in numbers(bits):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found
