"""What a batch makes of a message: each reading with a time of its own, also where its device is found later, and one
dead letter for all that is refused of it."""

from hypothesis import given
from hypothesis import strategies as st

from ingestor.batch import Batch, Results
from ingestor.payload.decode import FAULTS_DESCRIBED, Measurement, Refusal
from ingestor.payload.refusals import PREFIX_BYTES, Message, RefusedRow
from shared.dead_letters import bitmap
from shared.readings.model import DeadLetter, ElementFault, Reading, Reason
from shared.settings import parse_topic_filter

NOON = 1_769_860_800_000_000
FILTER = parse_topic_filter("devices/+/stats")
good = st.just(Measurement(1, 2, 3, None))
timed = st.just(Measurement(1, 2, 3, NOON - 5))
bad = st.sampled_from([Refusal(Reason.INVALID_READING, "no reading"), Refusal(Reason.OUT_OF_RANGE, "too much")])


def message(elements: int, topic: str = "devices/7/stats", payload: bytes = b"[]") -> Message:
    return Message(topic, "text/plain", payload, NOON, elements)


def added(results: Results, *, step: int = 1, device: int | None = 7, payload: bytes = b"[]") -> Batch:
    """A batch with one message."""
    batch = Batch(step)
    batch.add(message(len(results), payload=payload), results, device, FILTER)
    return batch


def refused(letter: DeadLetter, elements: int) -> list[int]:
    """The indexes of what was refused."""
    return list(range(elements)) if letter.refused is None else list(bitmap.numbers(letter.refused))


@given(st.integers(1, 128), st.lists(good | timed | bad, min_size=1), st.booleans())
def test_the_times_of_a_message_are_a_step_apart_in_its_order(
    step: int, results: list[Measurement | Refusal], known: bool
) -> None:
    batch = added(results, step=step, device=7 if known else None)
    batch.settle({"devices/7/stats": 7})
    times = [NOON + step * position for position in range(len(results))]
    assert [reading.received_at for reading in batch.readings] == [
        at for at, result in zip(times, results, strict=True) if isinstance(result, Measurement)
    ]


@given(st.lists(st.lists(good | timed | bad | st.none(), min_size=1), max_size=8), st.data())
def test_a_message_is_one_dead_letter_with_all_that_is_refused_of_it_and_nothing_else(
    messages: list[list[Measurement | Refusal | None]], data: st.DataObject
) -> None:
    """By the decoder, by the database, or since its device was deleted: what remains is to be stored."""
    batch, expected = Batch(2), {}
    for number, results in enumerate(messages):
        sent = Message("devices/7/stats", None, b"", NOON + 1_000_000 * number, len(results))
        batch.add(sent, results, number, FILTER)
        expected[sent.received_at] = {i for i, result in enumerate(results) if isinstance(result, Refusal)}
    deleted = data.draw(st.sets(st.sampled_from(range(len(messages))))) if messages else set()
    batch.reassign(deleted, {})
    for number in deleted:
        expected[NOON + 1_000_000 * number] |= {i for i, r in enumerate(messages[number]) if r is not None}
    at_the_database = data.draw(st.sets(st.sampled_from(range(len(batch.readings))))) if batch.readings else set()
    for place in at_the_database:
        number, rest = divmod(batch.readings[place].received_at - NOON, 1_000_000)
        expected[NOON + 1_000_000 * number].add(rest // 2)
    letters = batch.letters([RefusedRow(place, "no") for place in sorted(at_the_database)])
    elements = {NOON + 1_000_000 * number: len(results) for number, results in enumerate(messages)}
    found = {letter.received_at: refused(letter, elements[letter.received_at]) for letter in letters}
    assert found == {at: sorted(indexes) for at, indexes in expected.items() if indexes}
    assert [letter.readings for letter in letters] == [len(indexes) for indexes in found.values()]
    assert sum(map(len, found.values())) == batch.rejected.total() + len(at_the_database)
    assert [letter.received_at for letter in letters] == sorted(found)


def test_what_the_database_refuses_is_forgotten_by_the_next_attempt() -> None:
    batch = added([Measurement(1, 2, 3, None), Refusal(Reason.OUT_OF_RANGE, "too much")])
    (first,) = batch.letters([RefusedRow(0, "a fault")])
    assert first.reasons == {Reason.OUT_OF_RANGE: 1, Reason.DATABASE_REFUSED: 1}
    (second,) = batch.letters()
    assert (second.reasons, second.refused) == ({Reason.OUT_OF_RANGE: 1}, b"\x02")


def test_the_first_faults_are_described_and_the_first_of_each_reason() -> None:
    results = [Refusal(Reason.INVALID_READING, str(n)) for n in range(5000)] + [Refusal(Reason.OUT_OF_RANGE, "much")]
    (letter,) = added([Measurement(1, 2, 3, None), *results]).letters()
    assert [fault.index for fault in letter.faults] == [*range(1, FAULTS_DESCRIBED + 1), 5001]
    assert letter.faults[-1] == ElementFault(5001, Reason.OUT_OF_RANGE, "much")
    assert (letter.reason, letter.detail, letter.readings) == (Reason.INVALID_READING, "0", 5001)
    assert letter.refused is not None
    assert bitmap.ranges(letter.refused) == [(1, 5001)]


def test_the_reason_of_most_readings_is_the_reason_of_the_message() -> None:
    few, many = Refusal(Reason.OUT_OF_RANGE, "few"), Refusal(Reason.INVALID_READING, "many")
    (letter,) = added([few, many, many]).letters()
    assert (letter.reason, letter.detail, letter.refused) == (Reason.INVALID_READING, "many", None)


def test_a_dead_letter_of_an_unknown_device_is_the_message_whole() -> None:
    batch = added([Measurement(1, 2, 3, None)] * 2, device=None, payload=b"[1,2]")
    batch.settle({})
    (letter,) = batch.letters()
    assert (letter.topic, letter.content_type, letter.payload) == ("devices/7/stats", "text/plain", b"[1,2]")
    assert (letter.reason, letter.refused) == (Reason.UNKNOWN_DEVICE, None)
    assert [fault.index for fault in letter.faults] == [None]
    assert batch.rejected == letter.reasons == {Reason.UNKNOWN_DEVICE: 2}


def test_only_the_beginning_is_kept_of_what_is_too_large() -> None:
    payload = b"[" * 3_000_000
    for device in (7, None):
        batch = added([Refusal(Reason.TOO_LARGE, "3000000 bytes")], device=device, payload=payload)
        batch.settle({})
        (letter,) = batch.letters()
        assert (letter.payload, letter.payload_bytes) == (payload[:PREFIX_BYTES], 3_000_000)
    (letter,) = added([Refusal(Reason.TOO_LARGE, "an array of 10001")], payload=b"[" + b"0," * 10_000 + b"0]").letters()
    assert (len(letter.payload), letter.payload_bytes) == (PREFIX_BYTES, 20_003)


def test_readings_of_devices_that_are_still_there_keep_their_places() -> None:
    batch = Batch()
    for device in (1, 2, 1, 3):
        batch.add(message(2), [Measurement(device, 0, 0, None)] * 2, device, FILTER)
    batch.reassign({1}, {})
    assert [reading.device_id for reading in batch.readings] == [2, 2, 3, 3]
    assert [letter.readings for letter in batch.letters([RefusedRow(3, "no")])] == [2, 2, 1]
    assert batch.rejected == {Reason.UNKNOWN_DEVICE: 4}
    assert isinstance(batch.readings[0], Reading)
