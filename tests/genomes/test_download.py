"""Downloads against a real server that fails in the ways that servers fail."""

import email.utils
import fcntl
import hashlib
import json
import logging
import socket
import time

import pytest
from file_server import Step
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genotok.errors import InputError
from genotok.genomes.download import AddressNotFound, download

BODY = bytes(range(256)) * 400
SHA256 = hashlib.sha256(BODY).hexdigest()
MD5 = hashlib.md5(BODY).hexdigest()
LONG_AGO = "Wed, 21 Oct 2015 07:28:00 GMT"
QUICK = {"timeout": 0.3, "backoff": 0.01}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_one_plain_request(server, tmp_path):
    url = server.serve("/g.fa", BODY)
    assert download(url, tmp_path / "new" / "g.fa", **QUICK) == tmp_path / "new" / "g.fa"
    assert (tmp_path / "new" / "g.fa").read_bytes() == BODY
    assert [request.method for request in server.seen] == ["GET"]
    assert names(tmp_path / "new") == ["g.fa"]


def test_empty_file(server, tmp_path):
    assert download(server.serve("/g.fa", b""), tmp_path / "g.fa", **QUICK).read_bytes() == b""
    assert names(tmp_path) == ["g.fa"]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_error_status_is_retried(server, tmp_path, status):
    url = server.serve("/g.fa", BODY, Step(status=status), Step(status=status, body=b"<html>busy</html>"))
    assert download(url, tmp_path / "g.fa", **QUICK).read_bytes() == BODY
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("status", "kind"), [(404, AddressNotFound), (410, AddressNotFound), (403, InputError), (400, InputError)]
)
def test_final_error_status_is_not_retried(server, tmp_path, status, kind):
    url = server.serve("/g.fa", BODY, Step(status=status))
    with pytest.raises(kind, match=str(status)) as caught:
        download(url, tmp_path / "g.fa", **QUICK)
    assert type(caught.value) is kind
    assert url in str(caught.value)
    assert len(server.seen) == 1
    assert names(tmp_path) == []


def test_attempts_run_out(server, tmp_path):
    url = server.serve("/g.fa", BODY, *[Step(status=503)] * 9)
    with pytest.raises(InputError, match=r"503.*gave up after 4 attempts"):
        download(url, tmp_path / "g.fa", retries=3, **QUICK)
    assert len(server.seen) == 4
    assert names(tmp_path) == []


def test_waits_double_without_jitter(server, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    url = server.serve("/g.fa", BODY, *[Step(status=503)] * 4)
    start = time.monotonic()
    download(url, tmp_path / "g.fa", timeout=1, backoff=0.02, longest_wait=0.1)
    waits = [float(message.rsplit(" in ", 1)[1].removesuffix(" s")) for message in caplog.messages]
    assert waits == [0.02, 0.04, 0.08, 0.1]
    assert 0.24 <= time.monotonic() - start < 2


def test_retry_after_seconds_is_honoured(server, tmp_path):
    url = server.serve("/g.fa", BODY, Step(status=429, headers={"Retry-After": "1"}))
    start = time.monotonic()
    download(url, tmp_path / "g.fa", **QUICK)
    assert 1 <= time.monotonic() - start < 2


def test_retry_after_is_limited(server, tmp_path, caplog):
    past = email.utils.formatdate(time.time() - 60, usegmt=True)
    later = email.utils.formatdate(time.time() + 3600, usegmt=True)
    answers = [Step(status=503, headers={"Retry-After": value}) for value in ("3600", later, past, "soon")]
    url = server.serve("/g.fa", BODY, *answers)
    download(url, tmp_path / "g.fa", timeout=0.3, backoff=0.001, longest_wait=0.15)
    waits = [float(message.rsplit(" in ", 1)[1].removesuffix(" s")) for message in caplog.messages]
    assert waits == [0.15, 0.15, 0.004, 0.008]


@pytest.mark.parametrize("fault", [{"cut_after": 70000}, {"stall_after": 70000}])
def test_broken_transfer_goes_on_where_it_stopped(server, tmp_path, fault):
    url = server.serve("/g.fa", BODY, Step(**fault))
    assert download(url, tmp_path / "g.fa", sha256=SHA256, md5=MD5, **QUICK).read_bytes() == BODY
    assert [(r.range, r.if_range, r.sent) for r in server.seen] == [
        (None, None, 70000),
        ("bytes=70000-", '"v1"', len(BODY) - 70000),
    ]
    assert names(tmp_path) == ["g.fa"]


def test_stall_before_the_first_byte(server, tmp_path):
    url = server.serve("/g.fa", BODY, Step(stall_after=0), Step(hang_up=True))
    assert download(url, tmp_path / "g.fa", **QUICK).read_bytes() == BODY
    assert len(server.seen) == 3


@given(cuts=st.lists(st.integers(0, 2000), max_size=5))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_byte_is_sent_twice_however_often_it_breaks(server, tmp_path, cuts):
    body = BODY[:5000]
    url = server.serve("/g.fa", body, *[Step(cut_after=cut) for cut in cuts])
    assert download(url, tmp_path / "g.fa", timeout=1, backoff=0).read_bytes() == body
    assert server.bytes_sent == len(body)
    assert names(tmp_path) == ["g.fa"]


def test_next_call_goes_on_from_the_part(server, tmp_path):
    url = server.serve("/g.fa", BODY, Step(cut_after=1000), Step(cut_after=1000))
    with pytest.raises(
        InputError, match=r"2000 of 102400 bytes.*gave up after 2 attempts.*goes on from .*g\.fa\.part$"
    ):
        download(url, tmp_path / "g.fa", retries=1, **QUICK)
    assert names(tmp_path) == ["g.fa.part", "g.fa.part.json"]
    assert download(url, tmp_path / "g.fa", sha256=SHA256, **QUICK).read_bytes() == BODY
    assert [request.range for request in server.seen] == [None, "bytes=1000-", "bytes=2000-"]
    assert names(tmp_path) == ["g.fa"]


def test_part_of_another_address_is_not_used(server, tmp_path):
    other = server.serve("/other.fa", BODY[::-1], Step(cut_after=1000))
    with pytest.raises(InputError):
        download(other, tmp_path / "g.fa", retries=0, **QUICK)
    url = server.serve("/g.fa", BODY)
    assert download(url, tmp_path / "g.fa", **QUICK).read_bytes() == BODY
    assert [request.range for request in server.seen] == [None]


@pytest.mark.parametrize("notes", ["", "[]", "{", '{"url": 3}', None])
def test_part_without_sound_notes_is_not_used(server, tmp_path, notes):
    (tmp_path / "g.fa.part").write_bytes(b"rubbish")
    if notes is not None:
        (tmp_path / "g.fa.part.json").write_text(notes)
    assert download(server.serve("/g.fa", BODY), tmp_path / "g.fa", **QUICK).read_bytes() == BODY
    assert [request.range for request in server.seen] == [None]
    assert names(tmp_path) == ["g.fa"]


def leave_part(tmp_path, url, body, **notes):
    """What an earlier call leaves behind."""
    (tmp_path / "g.fa.part").write_bytes(body)
    (tmp_path / "g.fa.part.json").write_text(json.dumps({"url": url, "validator": '"v1"', **notes}))


def test_changed_file_is_fetched_whole(server, tmp_path):
    url = server.serve("/g.fa", BODY[::-1], etag='"v2"')
    leave_part(tmp_path, url, BODY[:1000], length=len(BODY))
    assert download(url, tmp_path / "g.fa", **QUICK).read_bytes() == BODY[::-1]
    assert [(r.range, r.sent) for r in server.seen] == [("bytes=1000-", len(BODY))]


@pytest.mark.parametrize(
    ("body", "etag", "step"),
    [
        (BODY[::-1], '"v2"', Step(ignore_if_range=True)),
        (BODY[::-1] + b"x", None, Step(ignore_if_range=True)),
        (BODY, '"v1"', Step(shift=5)),
        (BODY, '"v1"', Step(headers={"Content-Range": "nonsense"})),
        (BODY, '"v1"', Step(status=416)),
        (BODY[:600], '"v1"', Step()),
    ],
    ids=["new etag", "new length", "shifted range", "no range", "416", "part too long"],
)
def test_wrong_ranges_are_never_appended(server, tmp_path, body, etag, step):
    url = server.serve("/g.fa", body, step, etag=etag)
    leave_part(tmp_path, url, BODY[:1000], length=len(BODY))
    assert download(url, tmp_path / "g.fa", retries=0, **QUICK).read_bytes() == body
    assert [request.range for request in server.seen] == ["bytes=1000-", None]
    assert names(tmp_path) == ["g.fa"]


def test_server_without_ranges(server, tmp_path):
    url = server.serve("/g.fa", BODY, Step(cut_after=1000), ranges=False)
    assert download(url, tmp_path / "g.fa", **QUICK).read_bytes() == BODY
    assert [(r.range, r.sent) for r in server.seen] == [(None, 1000), ("bytes=1000-", len(BODY))]


def test_answer_in_parts_to_a_whole_request(server, tmp_path):
    url = server.serve("/g.fa", BODY, *[Step(status=206, body=BODY[:10])] * 9)
    with pytest.raises(InputError, match="sends a part of the file where the whole was asked for"):
        download(url, tmp_path / "g.fa", retries=1, **QUICK)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("etag", "modified", "validator"),
    [
        (None, None, None),
        ('W/"v1"', None, None),
        ('W/"v1"', LONG_AGO, LONG_AGO),
        (None, LONG_AGO, LONG_AGO),
        (None, "yesterday", None),
        ('"v1"', LONG_AGO, '"v1"'),
    ],
)
def test_only_strong_validators_allow_a_resume(server, tmp_path, etag, modified, validator):
    url = server.serve("/g.fa", BODY, Step(cut_after=1000), etag=etag, modified=modified)
    assert download(url, tmp_path / "g.fa", **QUICK).read_bytes() == BODY
    second = server.seen[1]
    assert (second.range, second.if_range) == (("bytes=1000-", validator) if validator else (None, None))


def test_file_modified_this_second_is_not_resumed(server, tmp_path):
    now = email.utils.formatdate(time.time() + 1, usegmt=True)
    url = server.serve("/g.fa", BODY, Step(cut_after=1000), etag=None, modified=now)
    assert download(url, tmp_path / "g.fa", **QUICK).read_bytes() == BODY
    assert server.seen[1].range is None


def test_part_without_validator_is_not_kept(server, tmp_path):
    url = server.serve("/g.fa", BODY, Step(cut_after=1000), etag=None)
    with pytest.raises(InputError):
        download(url, tmp_path / "g.fa", retries=0, **QUICK)
    assert names(tmp_path) == []


@pytest.mark.parametrize("style", [{"chunked": True}, {"hide_length": True}])
def test_bodies_of_unknown_length(server, tmp_path, style):
    url = server.serve("/g.fa", BODY, Step(**style))
    assert download(url, tmp_path / "g.fa", **QUICK).read_bytes() == BODY


def test_broken_chunks_are_resumed(server, tmp_path):
    url = server.serve("/g.fa", BODY, Step(chunked=True, cut_after=500))
    assert download(url, tmp_path / "g.fa", **QUICK).read_bytes() == BODY
    assert [request.range for request in server.seen] == [None, "bytes=500-"]


def test_wrong_checksum_twice(server, tmp_path):
    url = server.serve("/g.fa", BODY)
    with pytest.raises(InputError) as caught:
        download(url, tmp_path / "g.fa", sha256="0" * 64, **QUICK)
    assert SHA256 in str(caught.value)
    assert "0" * 64 in str(caught.value)
    assert [request.range for request in server.seen] == [None, None]
    assert names(tmp_path) == []


def test_wrong_checksum_once(server, tmp_path):
    damaged = b"X" + BODY[1:]
    url = server.serve("/g.fa", BODY, Step(status=200, body=damaged))
    assert download(url, tmp_path / "g.fa", md5=MD5.upper(), **QUICK).read_bytes() == BODY
    assert len(server.seen) == 2


def test_damaged_part_is_found_by_the_checksum(server, tmp_path):
    url = server.serve("/g.fa", BODY)
    leave_part(tmp_path, url, b"X" * 1000, length=len(BODY))
    assert download(url, tmp_path / "g.fa", sha256=SHA256, **QUICK).read_bytes() == BODY
    assert [request.range for request in server.seen] == ["bytes=1000-", None]


@pytest.mark.parametrize("given", [{"sha256": "12ab"}, {"md5": SHA256}, {"sha256": "g" * 64}])
def test_malformed_checksum_is_said_before_downloading(server, tmp_path, given):
    with pytest.raises(InputError, match="hexadecimal digits"):
        download(server.serve("/g.fa", BODY), tmp_path / "g.fa", **given, **QUICK)
    assert server.seen == []


def test_failure_leaves_an_older_target(server, tmp_path):
    (tmp_path / "g.fa").write_bytes(b"old")
    with pytest.raises(AddressNotFound):
        download(server.base + "/none", tmp_path / "g.fa", **QUICK)
    assert (tmp_path / "g.fa").read_bytes() == b"old"
    assert names(tmp_path) == ["g.fa"]


def test_redirect(server, tmp_path):
    target = server.serve("/real.fa", BODY, Step(cut_after=10))
    again = [Step(status=302, headers={"Location": target})] * 2
    url = server.serve("/g.fa", b"", *again)
    assert download(url, tmp_path / "g.fa", **QUICK).read_bytes() == BODY
    assert [r.range for r in server.seen if r.path == "/real.fa"] == [None, "bytes=10-"]


def test_nobody_listens(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/g.fa"
    with pytest.raises(InputError, match=r"refused.*gave up after 2 attempts"):
        download(url, tmp_path / "g.fa", retries=1, **QUICK)
    assert names(tmp_path) == []


def test_only_one_process_downloads(server, tmp_path):
    url = server.serve("/g.fa", BODY)
    with open(tmp_path / "g.fa.part", "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process"):
            download(url, tmp_path / "g.fa", **QUICK)
    assert download(url, tmp_path / "g.fa", **QUICK).read_bytes() == BODY


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/a b", "http://127.0.0.1:1/\u00e9", "gopher://x/y"])
def test_invalid_addresses(tmp_path, url):
    with pytest.raises(InputError, match=r"no valid address|only http, https, ftp"):
        download(url, tmp_path / "g.fa", retries=0, **QUICK)
    assert names(tmp_path) == []


def test_target_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        download(server.serve("/g.fa", BODY), tmp_path / "file" / "g.fa", **QUICK)


def test_local_files_are_copied(tmp_path):
    source = tmp_path / "a source.fa"
    source.write_bytes(BODY)
    assert download(source, tmp_path / "1.fa", sha256=SHA256).read_bytes() == BODY
    assert download(str(source), tmp_path / "2.fa").read_bytes() == BODY
    assert download(source.as_uri(), tmp_path / "3.fa", md5=MD5).read_bytes() == BODY
    with pytest.raises(InputError, match=f"{MD5}, not {'0' * 32}"):
        download(source, tmp_path / "4.fa", md5="0" * 32)
    with pytest.raises(InputError, match="no such file"):
        download(tmp_path / "none", tmp_path / "4.fa")
    assert names(tmp_path) == ["1.fa", "2.fa", "3.fa", "a source.fa"]


def test_ftp(ftp, tmp_path):
    ftp.files["g.fa"] = [(len(BODY), BODY[:1000]), (len(BODY), BODY)]
    assert download(f"{ftp.base}/pub/g.fa", tmp_path / "g.fa", sha256=SHA256, **QUICK).read_bytes() == BODY
    assert len(ftp.files["g.fa"]) == 1
    assert names(tmp_path) == ["g.fa"]


@pytest.mark.parametrize("path", ["/pub/none.fa", "/nowhere/g.fa"])
def test_ftp_file_that_does_not_exist(ftp, tmp_path, path):
    with pytest.raises(AddressNotFound, match="550"):
        download(ftp.base + path, tmp_path / "g.fa", **QUICK)
    assert names(tmp_path) == []
