import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from storage.atomic import replace_dir, staged_dir, write_json, write_text
from storage.cache import cache_dir
from storage.errors import StorageError
from storage.lock import folder_lock
from storage.wheels import fetch_wheel

ROOT = Path(__file__).parents[2]


def start(code: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.01)


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_cache_dir_prefers_own_variable_then_xdg_then_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MODEL_ORGANISMS_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_dir() == tmp_path / "home/.cache/model-organisms"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg/model-organisms"
    monkeypatch.setenv("MODEL_ORGANISMS_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"
    assert cache_dir().is_dir()


def test_write_text_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "eins\r\nzwölf")
    write_text(path, "zwei\n")
    assert path.read_bytes() == b"zwei\n"
    assert visible(tmp_path) == ["a.txt"]


def test_write_text_on_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert visible(tmp_path) == ["a.json"]


def test_write_json_refuses_nan_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": "ü"})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": "ü"}


def test_readers_never_see_a_part_while_a_writer_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, [0] * 20_000)
    writing = (
        "import itertools, sys; from pathlib import Path; from storage.atomic import write_json\n"
        "for i in itertools.count(): write_json(Path(sys.argv[1]), [i] * 20_000)"
    )
    for _ in range(3):
        writer = start(writing, path)
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            assert len(set(json.loads(path.read_text()))) == 1
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        assert len(json.loads(path.read_text())) == 20_000


def test_replace_dir_takes_the_place_of_an_existing_folder(tmp_path: Path) -> None:
    for name in ("new", "final"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "who").write_text(name)
    (tmp_path / "final" / "only_old").touch()
    replace_dir(tmp_path / "new", tmp_path / "final")
    assert visible(tmp_path) == ["final"]
    assert visible(tmp_path / "final") == ["sub"]
    assert (tmp_path / "final/sub/who").read_text() == "new"


def test_staged_dir_leaves_nothing_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="half way"), staged_dir(tmp_path / "final") as tmp:
        (tmp / "a").touch()
        raise RuntimeError("half way")
    assert visible(tmp_path) == []


def test_staged_dir_clears_what_a_killed_process_left(tmp_path: Path) -> None:
    final = tmp_path / "with [brackets]"
    code = (
        "import sys, time; from pathlib import Path; from storage.atomic import staged_dir\n"
        "with staged_dir(Path(sys.argv[1])) as tmp:\n"
        "    (tmp / 'half').touch(); Path(sys.argv[2]).touch(); time.sleep(60)"
    )
    process = start(code, final, tmp_path / "started")
    wait_for(tmp_path / "started")
    process.kill()
    process.communicate()
    assert not final.exists()
    assert len(visible(tmp_path)) == 2
    with staged_dir(final) as tmp:
        (tmp / "whole").touch()
    assert visible(tmp_path) == ["started", final.name]
    assert visible(final) == ["whole"]


def test_folder_lock_lets_one_process_in_at_a_time(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    code = (
        "import sys; from pathlib import Path; from storage.lock import folder_lock\n"
        "for _ in range(200):\n"
        "    with folder_lock(Path(sys.argv[1]) / 'folder'):\n"
        "        path = Path(sys.argv[1]) / 'counter'; path.write_text(str(int(path.read_text()) + 1))"
    )
    processes = [start(code, tmp_path) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert counter.read_text() == "600"


def test_folder_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from storage.lock import folder_lock\n"
        "with folder_lock(Path(sys.argv[1]) / 'folder'): (Path(sys.argv[1]) / 'held').touch(); time.sleep(60)"
    )
    process = start(code, tmp_path)
    wait_for(tmp_path / "held")
    process.kill()
    process.communicate()
    with folder_lock(tmp_path / "folder"):
        pass


PAYLOAD = b"x" * 100_000
HASHES = {"toy_data/payload.bin": hashlib.sha256(PAYLOAD).hexdigest()}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one real wheel, from which alone pip takes packages."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "toy_data-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("toy_data/__init__.py", "raise SystemExit('the code of a data package must never run')")
        wheel.writestr("toy_data/payload.bin", PAYLOAD)
        info = "toy_data-1.0.dist-info"
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: toy-data\nVersion: 1.0\nRequires-Dist: none\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_fetch_wheel_unpacks_without_installing_and_only_once(tmp_path: Path, index: Path) -> None:
    dest = tmp_path / "out" / "toy"
    assert fetch_wheel("toy-data", "1.0", HASHES, dest) == dest
    assert (dest / "toy_data/payload.bin").read_bytes() == PAYLOAD
    assert visible(tmp_path / "out") == ["toy"]
    (index / "toy_data-1.0-py3-none-any.whl").unlink()
    assert fetch_wheel("toy-data", "1.0", HASHES, dest) == dest


@pytest.mark.parametrize(
    ("package", "hashes", "message"),
    [
        ("toy-data", {"toy_data/payload.bin": "0" * 64}, "payload.bin has SHA-256 .*, expected 000"),
        ("toy-data", {"toy_data/absent.bin": "0" * 64}, "holds no file toy_data/absent.bin"),
        ("no-such-data", {}, "cannot fetch package no-such-data==1.0: .*No matching distribution"),
    ],
)
def test_fetch_wheel_leaves_nothing_it_cannot_vouch_for(
    tmp_path: Path, index: Path, package: str, hashes: dict[str, str], message: str
) -> None:
    with pytest.raises(StorageError, match=message):
        fetch_wheel(package, "1.0", hashes, tmp_path / "out" / "toy")
    assert visible(tmp_path / "out") == []


def test_fetch_wheel_refuses_a_source_archive(tmp_path: Path, index: Path) -> None:
    (index / "toy_data-1.0-py3-none-any.whl").unlink()
    (index / "toy_data-1.0.tar.gz").write_bytes(b"a source archive would run its setup.py")
    with pytest.raises(StorageError, match="cannot fetch package"):
        fetch_wheel("toy-data", "1.0", HASHES, tmp_path / "toy")


FETCH = (
    "import json, sys; from pathlib import Path; from storage.wheels import fetch_wheel\n"
    "fetch_wheel('toy-data', '1.0', json.loads(sys.argv[2]), Path(sys.argv[1]))"
)


def test_fetch_wheel_raced_by_three_processes(tmp_path: Path, index: Path) -> None:
    dest = tmp_path / "out" / "toy"
    processes = [start(FETCH, dest, json.dumps(HASHES)) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert (dest / "toy_data/payload.bin").read_bytes() == PAYLOAD
    assert visible(tmp_path / "out") == ["toy"]


@pytest.mark.parametrize("seconds", [0.3, 0.6])
def test_fetch_wheel_after_a_kill(tmp_path: Path, index: Path, seconds: float) -> None:
    dest = tmp_path / "out" / "toy"
    process = start(FETCH, dest, json.dumps(HASHES))
    time.sleep(seconds)
    process.kill()
    process.communicate()
    fetch_wheel("toy-data", "1.0", HASHES, dest)
    assert (dest / "toy_data/payload.bin").read_bytes() == PAYLOAD
    assert visible(tmp_path / "out") == ["toy"]
