import hashlib
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from kpose.data.download import CUB_ARCHIVES, Archive, download_archive, download_cub, extract_archive, main


def pack(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


FILES = {
    "/photos.tgz": pack({"CUB_200_2011/images.txt": b"1 a/b.jpg\n", "attributes.txt": b"x"}),
    "/masks.tgz": pack({"segmentations/a/b.png": bytes(range(256)) * 40}),
}


@pytest.fixture
def server():
    """A server of two archives on the loopback device that understands ranges; ``limit`` cuts answers short."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers.get("Range")
            server.requests.append((self.path, asked))
            if self.path not in FILES:
                return self.send_error(404)
            content = FILES[self.path]
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges else 0
            if start >= len(content):
                return self.send_error(416)
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:][: server.limit])
            return None

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.ranges, server.limit = [], True, None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def archive(server, path: str, creates: str, md5: str | None = None) -> Archive:
    digest = hashlib.md5(FILES.get(path, b"")).hexdigest() if md5 is None else md5
    return Archive(f"http://127.0.0.1:{server.server_port}{path}", path[1:], digest, creates)


def archives(server) -> tuple[Archive, Archive]:
    return archive(server, "/photos.tgz", "CUB_200_2011"), archive(server, "/masks.tgz", "segmentations")


def test_whole_data_set_is_fetched_once(server, tmp_path):
    root = download_cub(tmp_path / "new", archives(server))
    assert root == tmp_path / "new" / "CUB_200_2011"
    assert (root / "images.txt").read_text() == "1 a/b.jpg\n"
    assert (root / "segmentations/a/b.png").stat().st_size == 10240
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["CUB_200_2011", "attributes.txt"]
    assert len(server.requests) == 2
    assert download_cub(tmp_path / "new", archives(server)) == root
    assert len(server.requests) == 2


def test_archives_may_be_kept(server, tmp_path):
    download_cub(tmp_path, archives(server), keep=True)
    assert (tmp_path / "photos.tgz").read_bytes() == FILES["/photos.tgz"]


def test_a_transfer_that_breaks_off_is_resumed(server, tmp_path):
    masks = archives(server)[1]
    server.limit = 50
    with pytest.raises(ConnectionError, match=r"it resumes"):
        download_archive(masks, tmp_path)
    assert (tmp_path / "masks.tgz.part").stat().st_size == 50
    server.limit = None
    assert download_archive(masks, tmp_path).read_bytes() == FILES["/masks.tgz"]
    assert server.requests[-1] == ("/masks.tgz", "bytes=50-")
    assert not (tmp_path / "masks.tgz.part").exists()


def test_a_server_without_ranges_sends_it_all_again(server, tmp_path):
    server.ranges = False
    (tmp_path / "masks.tgz.part").write_bytes(b"something else")
    assert download_archive(archives(server)[1], tmp_path).read_bytes() == FILES["/masks.tgz"]


def test_a_complete_part_needs_no_more_bytes(server, tmp_path):
    (tmp_path / "masks.tgz.part").write_bytes(FILES["/masks.tgz"])
    assert download_archive(archives(server)[1], tmp_path).read_bytes() == FILES["/masks.tgz"]


def test_wrong_checksum_removes_the_file(server, tmp_path):
    with pytest.raises(ValueError, match=r"checksum 0000.*Run the command again"):
        download_archive(archive(server, "/masks.tgz", "segmentations", md5="0000"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_put_there_by_hand_is_checked_and_used(server, tmp_path):
    (tmp_path / "masks.tgz").write_bytes(FILES["/masks.tgz"])
    download_archive(archives(server)[1], tmp_path)
    assert server.requests == []
    (tmp_path / "masks.tgz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="checksum"):
        download_archive(archives(server)[1], tmp_path)


def test_without_network_the_error_says_what_to_do(tmp_path):
    unreachable = Archive("http://127.0.0.1:9/photos.tgz", "photos.tgz", "0", "CUB_200_2011")
    with pytest.raises(ConnectionError, match=r"cannot be reached.*by other means and put it at .*photos\.tgz\."):
        download_archive(unreachable, tmp_path, timeout=2.0)


def test_a_missing_file_on_the_server_is_reported(server, tmp_path):
    with pytest.raises(ConnectionError, match="404"):
        download_archive(archive(server, "/nothing.tgz", "x"), tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"no archive",
        pack({"elsewhere/a": b"1"}),
        pack({"good/a": b"1", "../evil": b"1"}),
        pack({"good/a": b"1"})[:60],
    ],
    # gzip writes the time: named by their bytes, the tests would differ between two workers of pytest-xdist.
    ids=["no archive", "another folder", "outside the folder", "cut short"],
)
def test_a_bad_archive_is_refused(tmp_path, content):
    (tmp_path / "bad.tgz").write_bytes(content)
    (tmp_path / "to").mkdir()
    with pytest.raises(ValueError, match=r"(?s)bad\.tgz.*download it again"):
        extract_archive(tmp_path / "bad.tgz", tmp_path / "to", creates="good")
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "to" / "good").exists()


def test_official_archives_are_named():
    assert [item.md5 for item in CUB_ARCHIVES] == [
        "97eceeb196236b17998738112f37df78",
        "4d47ba1228eae64f2fa547c47bc65255",
    ]
    assert all(item.url.startswith("https://data.caltech.edu/records/") for item in CUB_ARCHIVES)


def test_command_ends_with_one_line_on_failure(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "kpose.data.download.download_cub", lambda *_, **__: (_ for _ in ()).throw(ConnectionError("no network"))
    )
    with pytest.raises(SystemExit) as exit_info:
        main([str(tmp_path)])
    assert exit_info.value.code == 1
    assert capsys.readouterr().err == "no network\n"
