"""Frame boundaries are found in any chunking, and a close frame is one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.websocket import FrameTracker, accept_value, close_frame


def frame(payload: bytes, *, masked: bool, opcode: int = 2) -> bytes:
    """A frame in the shortest length encoding (RFC 6455 5.2)."""
    size = len(payload)
    mask_bit = 0x80 if masked else 0
    head = bytes((0x80 | opcode,))
    if size < 126:
        head += bytes((mask_bit | size,))
    elif size < 1 << 16:
        head += bytes((mask_bit | 126,)) + size.to_bytes(2, "big")
    else:
        head += bytes((mask_bit | 127,)) + size.to_bytes(8, "big")
    return head + (b"\x81\x7e\x7f\xff" if masked else b"") + payload


SIZES = st.one_of(st.integers(0, 300), st.sampled_from([125, 126, 127, 65535, 65536]))
FRAMES = st.lists(
    st.builds(lambda size, masked: frame(b"\xff" * size, masked=masked), SIZES, st.booleans()),
    min_size=1,
    max_size=6,
)


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({cut % (len(stream) + 1) for cut in cuts} | {len(stream)})
    return [stream[a:b] for a, b in zip([0, *ends], ends, strict=False)]


CUTS = st.lists(st.integers(0, 1 << 18), max_size=12)


@given(FRAMES, CUTS)
def test_boundaries_do_not_depend_on_the_chunking(frames: list[bytes], cuts: list[int]) -> None:
    """After every piece the tracker is at a boundary exactly where a frame has ended."""
    ends = {sum(map(len, frames[:count])) for count in range(len(frames) + 1)}
    tracker, at = FrameTracker(), 0
    assert tracker.at_boundary
    for piece in pieces(b"".join(frames), cuts):
        assert tracker.feed(piece) == len(piece)
        at += len(piece)
        assert tracker.at_boundary is (at in ends)


@given(FRAMES, CUTS, st.data())
def test_a_stop_is_at_the_end_of_the_frame_under_way(
    frames: list[bytes], cuts: list[int], data: st.DataObject
) -> None:
    """Bytes are taken up to the next boundary and none behind it."""
    stream = b"".join(frames)
    begun = data.draw(st.integers(1, len(stream)))
    tracker = FrameTracker()
    tracker.feed(stream[:begun])
    taken = begun
    ends = [sum(map(len, frames[:count])) for count in range(1, len(frames) + 1)]
    if tracker.at_boundary:
        return
    for piece in pieces(stream[begun:], cuts):
        step = tracker.feed(piece, stop_at_boundary=True)
        taken += step
        if tracker.at_boundary:
            break
        assert step == len(piece)
    assert taken == min(end for end in ends if end > begun)


def test_byte_by_byte_is_as_good_as_at_once() -> None:
    """Every header size is read across every cut."""
    stream = b"".join(
        frame(b"x" * size, masked=m) for size in (0, 126, 65536) for m in (False, True)
    )
    tracker = FrameTracker()
    boundaries = 0
    for at in range(len(stream)):
        tracker.feed(stream[at : at + 1])
        boundaries += tracker.at_boundary
    assert boundaries == 6


def test_the_proof_is_the_one_of_the_rfc() -> None:
    """RFC 6455 1.3, the example."""
    assert accept_value(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    ("masked", "written"),
    [(False, b"\x88\x06\x03\xf0gone"), (True, b"\x88\x86\0\0\0\0\x03\xf0gone")],
)
def test_a_close_frame_says_why(masked: bool, written: bytes) -> None:
    """Status 1008; masked towards an upstream, as a client's frames must be (RFC 6455 5.1)."""
    assert close_frame(1008, b"gone", masked=masked) == written


@given(st.binary(max_size=123), st.booleans())
def test_a_close_frame_is_one_whole_frame(reason: bytes, masked: bool) -> None:
    """Whatever the reason is, nothing is left open behind it."""
    tracker = FrameTracker()
    tracker.feed(close_frame(1001, reason, masked=masked))
    assert tracker.at_boundary


@given(FRAMES, CUTS, st.booleans(), FRAMES)
def test_a_close_frame_is_found_at_its_end(
    before: list[bytes], cuts: list[int], masked: bool, behind: list[bytes]
) -> None:
    """Among frames of every size, and in whatever pieces it comes."""
    stream = b"".join(before) + close_frame(1008, b"gone", masked=masked)
    end = len(stream)
    tracker, at = FrameTracker(), 0
    for piece in pieces(stream + b"".join(behind), cuts):
        found = tracker.finds_close(piece)
        at += len(piece)
        assert found is (at >= end)
        if found:
            break


def test_short_frames_before_a_close_frame_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty thousand of them may come in one segment (T96)."""
    heads, read_header = list[bytes](), FrameTracker._read_header

    def noted(tracker: FrameTracker, data: bytes) -> int:
        heads.append(bytes(data[:2]))
        return read_header(tracker, data)

    monkeypatch.setattr(FrameTracker, "_read_header", noted)
    short = frame(b"", masked=False) * 1000 + frame(b"\x88\0", masked=True) * 1000
    tracker = FrameTracker()
    assert not tracker.finds_close(short)
    assert tracker.finds_close(short + close_frame(1000, b"", masked=True) + short)
    assert heads == [b"\x88\x82"]
