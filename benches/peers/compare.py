#!/usr/bin/env python3
"""Compares domo-token with oidc-agent and git credential-cache, in one interleaved run.

Needs the release build of this workspace (domo-tokend, domo-token, domo-sandbox), cc, openssl, git, and
Debian's oidc-agent-cli. A missing program is skipped with a notice. Prints a table in Markdown; with --write FILE,
replaces the text between the file's markers. All daemons run on one core, all callers on another.
"""

import argparse
import contextlib
import http.server
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILT = ROOT / "target/release"
CORES = sorted(os.sched_getaffinity(0))
SERVER, CALLER = CORES[0], CORES[-1]
PATIENCE = 10.0
ENTRY = "protocol=https\nhost=api.domo.com\nusername=token\n"
TOKEN = "eyJ" + "a" * 640


def run(command, environment=None, text=None):
    """Runs a command on the callers' core. Returns the duration, the exit code and standard output."""
    stdin = {"input": text} if text else {"stdin": subprocess.DEVNULL}
    start = time.monotonic()
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=PATIENCE,
            env=environment, text=True, **stdin,
        )
        code, out = done.returncode, done.stdout
    except subprocess.TimeoutExpired:
        code, out = None, ""
    return time.monotonic() - start, code, out


# Each daemon gets its own session, like the one that daemonises itself: the scheduler divides processors by session.
def on_core(core):
    return lambda: os.sched_setaffinity(0, {core})


def wait_for(condition, what):
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"compare: timed out waiting for {what}")
        time.sleep(0.02)


def pss(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1]) / 1024


def children(pid):
    text = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


class Issuer:
    """A minimal OpenID provider for oidc-agent, over TLS because oidc-agent requires it."""

    def __init__(self, folder):
        self.hits, self.mode = 0, "good"
        self.cert = folder / "cert.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
             "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout",
             folder / "key.pem", "-out", self.cert],
            check=True, stderr=subprocess.DEVNULL,
        )
        issuer = self

        class Answers(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def reply(self, status, fields):
                body = json.dumps(fields).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                url = issuer.url
                self.reply(200, {
                    "issuer": url, "token_endpoint": url + "token", "jwks_uri": url + "jwks",
                    "authorization_endpoint": url + "auth", "response_types_supported": ["code"],
                    "scopes_supported": ["openid", "offline_access", "data"],
                    "grant_types_supported": ["refresh_token"],
                })

            def do_POST(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                issuer.hits += 1
                if issuer.mode == "hang":
                    time.sleep(3 * PATIENCE)
                    return
                if issuer.mode == "down":
                    self.reply(503, {"error": "temporarily_unavailable"})
                    return
                self.reply(200, {
                    "access_token": TOKEN, "token_type": "Bearer", "expires_in": 3599,
                    "refresh_token": "rt", "scope": "openid offline_access data",
                })

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, folder / "key.pem")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.server.daemon_threads = True
        self.url = f"https://localhost:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Domo:
    name = "domo-token"

    def __init__(self, folder):
        self.folder = folder
        self.socket = folder / "domo.sock"
        self.environment = {"DOMO_TOKEN_SOCKET": str(self.socket)}
        # The helper as it is shipped, if that has been built.
        static = sorted((ROOT / "target").glob("*/release-helper/domo-token"))
        program = static[0] if static else BUILT / "domo-token"
        self.helper = [program, "data"]
        self.fresh = [program, "--timeout", "5s", "--renew", "data"]
        self.request = self.encoded()
        self.half_close = 0
        self.sandbox(None)
        self.start()
        wait_for(lambda: run(self.helper, self.environment)[1] == 0, "a token of domo-token")

    def encoded(self):
        body = bytes([0, 0, 4]) + b"data" + bytes([0, 251]) + struct.pack("<H", 10_000) + bytes([0])
        return b"DTK\x02" + struct.pack("<I", len(body)) + body

    def sandbox(self, fault, port=0):
        flags = ["--fail", fault] if fault else []
        self.domo = subprocess.Popen(
            [BUILT / "domo-sandbox", "--port", str(port), *flags],
            stdout=subprocess.PIPE, text=True, preexec_fn=on_core(CALLER),
        )
        lines = []
        while not lines or not lines[-1].startswith("allow_http"):
            lines.append(self.domo.stdout.readline())
        config = "".join(line for line in lines if not line.startswith("#"))
        self.port = int(re.search(r"127\.0\.0\.1:(\d+)", config)[1])
        path = self.folder / "domo.toml"
        if not path.exists():
            path.touch(0o600)
            path.write_text(config)

    def start(self):
        self.daemon = subprocess.Popen(
            [BUILT / "domo-tokend", "--config", self.folder / "domo.toml", "--socket", self.socket],
            stderr=subprocess.DEVNULL, preexec_fn=on_core(SERVER), start_new_session=True,
        )
        wait_for(self.socket.exists, "domo-tokend's socket")

    def pids(self):
        return [self.daemon.pid]

    def outage(self, kind):
        self.domo.send_signal(signal.SIGSTOP if kind == "hang" else signal.SIGTERM)
        if kind == "down":
            self.domo.wait()

    def recover(self, kind):
        if kind == "hang":
            self.domo.send_signal(signal.SIGCONT)
        else:
            self.sandbox(None, self.port)

    def killed(self):
        self.daemon.kill()
        self.daemon.wait()

    def again(self):
        self.start()

    def stop(self):
        for process in (self.daemon, self.domo):
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


class Oidc:
    name = "oidc-agent"

    def __init__(self, folder):
        self.folder = folder
        self.issuer = Issuer(folder)
        self.helper = ["oidc-token", "acme"]
        self.fresh = ["oidc-token", "-f", "acme"]
        self.request = json.dumps({
            "request": "access_token", "account": "acme", "min_valid_period": 0,
            "application_hint": "compare",
        }).encode()
        self.half_close = 0
        self.start()
        wait_for(lambda: run(self.helper, self.environment)[1] == 0, "a token of oidc-agent")

    def start(self):
        home = self.folder / "home"
        (home / ".oidc-agent").mkdir(parents=True, exist_ok=True)
        base = {"HOME": str(home), "PATH": os.environ["PATH"]}
        output = subprocess.run(
            ["oidc-agent"], env=base, stdout=subprocess.PIPE, text=True, preexec_fn=on_core(SERVER)
        ).stdout
        self.socket = pathlib.Path(re.search(r"OIDC_SOCK=([^;]+)", output)[1])
        self.pid = int(re.search(r"OIDCD_PID=(\d+)", output)[1])
        self.environment = base | {"OIDC_SOCK": str(self.socket)}
        subprocess.run(
            ["oidc-gen", "acme", "--no-save", "--pw-cmd=echo pw", "-m", "--flow=refresh", "--rt=rt",
             "--client-id=id", "--client-secret=secret", f"--issuer={self.issuer.url}",
             f"--cp={self.issuer.cert}", "--scope=openid offline_access data",
             "--redirect-uri=http://localhost:8080", "--no-url-call", "--prompt=none", "--no-scheme"],
            env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, timeout=PATIENCE,
        )

    def pids(self):
        return [self.pid, *children(self.pid)]

    def outage(self, kind):
        self.issuer.mode = kind

    def recover(self, _):
        self.issuer.mode = "good"

    def killed(self):
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def again(self):
        home = self.environment
        output = subprocess.run(
            ["oidc-agent"], env=home, stdout=subprocess.PIPE, text=True, preexec_fn=on_core(SERVER)
        ).stdout
        self.socket = pathlib.Path(re.search(r"OIDC_SOCK=([^;]+)", output)[1])
        self.pid = int(re.search(r"OIDCD_PID=(\d+)", output)[1])
        self.environment = home | {"OIDC_SOCK": str(self.socket)}

    def stop(self):
        self.killed()


class Git:
    name = "git credential-cache"
    fresh = None
    stdin = ENTRY

    def __init__(self, folder):
        self.socket = folder / "git" / "socket"
        self.socket.parent.mkdir(mode=0o700)
        self.environment = {"HOME": str(folder), "PATH": os.environ["PATH"]}
        self.helper = ["git", "credential-cache", f"--socket={self.socket}", "get"]
        self.request = ("action=get\ntimeout=900\n" + ENTRY).encode()
        self.half_close = 1
        self.start()

    def start(self):
        store = [*self.helper[:-1], "--timeout=36000", "store"]
        subprocess.run(
            store, input=f"{ENTRY}password={TOKEN}\n", text=True, env=self.environment,
            check=True, preexec_fn=on_core(SERVER), start_new_session=True,
        )
        wait_for(self.socket.exists, "git's socket")

    def pids(self):
        found = subprocess.run(
            ["pgrep", "-f", f"credential-cache--daemon.*{self.socket}"],
            stdout=subprocess.PIPE, text=True,
        ).stdout.split()
        return [int(pid) for pid in found]

    def killed(self):
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)

    def again(self):
        """Does nothing: the next call starts a daemon without entries."""

    def stop(self):
        self.killed()


def token_of(peer):
    return run(peer.helper, peer.environment, getattr(peer, "stdin", None))


def ratio(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def scripts(peers, load, folder, rounds):
    """Returns the duration of a helper process as a ratio to that of /bin/true."""
    found = {peer.name: [] for peer in peers}
    stdin = folder / "stdin"

    def span(command, environment=None, text=""):
        stdin.write_text(text)
        done = subprocess.run(
            [load, "time", stdin, "40", *command], env=environment, stdout=subprocess.PIPE, text=True,
            check=True,
        )
        return float(done.stdout)

    for _ in range(rounds):
        floor = span(["/bin/true"])
        for peer in peers:
            ours = span(peer.helper, peer.environment, getattr(peer, "stdin", ""))
            found[peer.name].append(ours / floor)
    return {name: ratio(ratios) for name, ratios in found.items()}


def rates(peers, load, folder, rounds, clients, seconds):
    """Returns the responses per second to that many concurrent clients, with one connection per request."""
    found = {peer.name: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            path = folder / "request"
            path.write_bytes(peer.request)
            done = subprocess.run(
                [load, "ask", peer.socket, path, str(clients), str(seconds), "600",
                 str(peer.half_close)],
                stdout=subprocess.PIPE, text=True, check=True, start_new_session=True,
            )
            found[peer.name].append(float(done.stdout) / 1000)
    return {name: ratio(values) + " k" for name, values in found.items()}


def state(peer):
    """Returns a note if the daemon has ended."""
    pids = peer.pids()
    alive = pids and all(pathlib.Path(f"/proc/{pid}").exists() for pid in pids)
    return "" if alive else "; the daemon has exited"


def others(peer, fault):
    """Returns the results of ten callers during a fault."""
    if "eyJ" not in token_of(peer)[2]:
        # It has not survived the previous fault.
        peer.stop()
        peer.start()
    with fault(peer):
        results = [token_of(peer) for _ in range(10)]
    good = [span for span, code, out in results if code == 0 and "eyJ" in out]
    if len(good) < len(results):
        return f"{len(results) - len(good)} of {len(results)} fail{state(peer)}"
    return f"served, {max(good) * 1000:.0f} ms at most"


@contextlib.contextmanager
def hanging(peer):
    held = []
    for _ in range(500):
        stream = socket.socket(socket.AF_UNIX)
        stream.settimeout(1)
        try:
            stream.connect(str(peer.socket))
        except OSError:
            break
        held.append(stream)
    yield
    for stream in held:
        stream.close()


def garbage(load):
    @contextlib.contextmanager
    def fault(peer):
        sending = subprocess.Popen([load, "garbage", peer.socket, "3"])
        yield
        sending.kill()
        sending.wait()
    return fault


def outage(kind):
    @contextlib.contextmanager
    def fault(peer):
        peer.outage(kind)
        # One caller requests a new token meanwhile. That may fail, but must not affect the others.
        asking = subprocess.Popen(
            peer.fresh, env=peer.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        time.sleep(0.3)
        yield
        asking.kill()
        asking.wait()
        peer.recover(kind)
    return fault


def deaf(peer):
    """Disconnects callers that have not read their response. Returns whether the next caller is served."""
    for _ in range(20):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as stream:
            stream.connect(str(peer.socket))
            stream.sendall(peer.request)
    time.sleep(0.3)
    _, code, out = token_of(peer)
    return "served" if code == 0 and "eyJ" in out else f"fails{state(peer)}"


def at_kill(peer):
    peer.killed()
    _, code, out = token_of(peer)
    down = f"exit {code}, {'no output' if not out.strip() else 'output'} on stdout"
    peer.again()
    start = time.monotonic()
    while time.monotonic() - start < 3:
        _, code, out = token_of(peer)
        if code == 0 and "eyJ" in out:
            return f"{down}; restarted: a token after {time.monotonic() - start:.2f} s"
    return f"{down}; restarted: no token within 3 s"


def table(peers, rows):
    text = "| | " + " | ".join(peer.name for peer in peers) + " |\n"
    text += "|---|" + "---|" * len(peers) + "\n"
    for what, found in rows:
        cells = [found.get(peer.name, "–") for peer in peers]
        text += f"| {what} | " + " | ".join(cells) + " |\n"
    return text


def measure(peers, folder, rounds, seconds):
    load = folder / "load"
    subprocess.run(
        ["cc", "-O2", "-D_GNU_SOURCE", "-pthread", "-o", load, HERE / "load.c"], check=True
    )
    rows = [("helper process: ratio to /bin/true", scripts(peers, load, folder, rounds))]
    memory = {peer.name: f"{sum(map(pss, peer.pids())):.1f}" for peer in peers}
    rows.append(("daemon's memory (PSS), MiB", memory))
    for clients in (1, 8, 64):
        found = rates(peers, load, folder, rounds, clients, seconds)
        rows.append((f"responses per second, one connection each, {clients} concurrent clients", found))
    each = lambda job: {peer.name: job(peer) for peer in peers}
    rows.append(("other callers, with 500 silent connections", each(lambda p: others(p, hanging))))
    rows.append(("other callers, while one sends garbage", each(lambda p: others(p, garbage(load)))))
    after = {peer.name: f"{sum(map(pss, peer.pids())):.1f}" for peer in peers if peer.pids()}
    rows.append(("daemon's memory (PSS) after that, MiB", after))
    for kind, words in (("down", "is down"), ("hang", "does not respond")):
        job = lambda p: others(p, outage(kind)) if p.fresh else "has no server"
        rows.append((f"other callers, while the server {words} and one requests a new token", each(job)))
    rows.append(("kill -9", each(at_kill)))
    for peer in peers:
        if isinstance(peer, (Git, Oidc)):
            peer.stop()
            peer.start()
    rows.append(("next caller, after callers that disconnected before their response", each(deaf)))
    return table(peers, rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--write", type=pathlib.Path)
    flags = parser.parse_args()
    random.seed(1)
    os.sched_setaffinity(0, {CALLER})
    kinds = [(Domo, BUILT / "domo-tokend"), (Oidc, "oidc-agent"), (Git, "git")]
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
        peers = []
        for kind, program in kinds:
            if not shutil.which(program):
                print(f"compare: skipping {kind.name}: {program} is not installed", file=sys.stderr)
                continue
            folder = pathlib.Path(place) / kind.__name__
            folder.mkdir(mode=0o700)
            peers.append(kind(folder))
            stack.callback(peers[-1].stop)
        text = measure(peers, pathlib.Path(place), flags.rounds, flags.seconds)
    print(text)
    if flags.write:
        begin, end = "<!-- figures: begin -->\n", "<!-- figures: end -->"
        before, rest = flags.write.read_text().split(begin, 1)
        after = rest.split(end, 1)[1]
        flags.write.write_text(before + begin + text + end + after)


if __name__ == "__main__":
    main()
