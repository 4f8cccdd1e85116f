#!/usr/bin/env python3
"""Compares the gateway with nginx and haproxy, in one interleaved run.

Needs the release build of domo-tokend and domo-sandbox, cc, and Debian's nginx-light and haproxy. Each proxy has one
thread on one core and adds the header Authorization; the origin and the clients are on another core. Connections are
kept on both sides. Prints a table in Markdown, and fails if a limit is exceeded; with --json, prints JSON.
"""

import argparse
import base64
import contextlib
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CORES = sorted(os.sched_getaffinity(0))
PROXY, OTHERS = CORES[0], CORES[-1]
PATIENCE = 10.0
TOKEN = "eyJ" + "a" * 640
GIB = 1 << 30
STREAMS = 64
NGINX = """
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 0;
    keepalive_requests 100000000;
    upstream origin {{
        server 127.0.0.1:{origin};
        keepalive 64;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_max_temp_file_size 0;
            proxy_set_header Connection "";
            proxy_set_header Authorization "Bearer {token}";
        }}
    }}
}}
"""
HAPROXY = """
global
    nbthread 1
    maxconn 1024
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
frontend local
    bind 127.0.0.1:{port}
    default_backend origin
backend origin
    http-request set-header Authorization "Bearer {token}"
    server origin 127.0.0.1:{origin} pool-max-conn 64
"""
GATEWAY = """
[gateway]
listen = "127.0.0.1:{port}"
[gateway.apps.bench]
secret_hash_file = "bench.hash"
client = "sandbox"
upstream = "http://127.0.0.1:{origin}"
allow = [ {{ methods = ["*"], path = "/v1/datasets/**", scopes = "data" }} ]
"""


def on_core(core):
    return lambda: os.sched_setaffinity(0, {core})


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for_port(port, process, what):
    end = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None or time.monotonic() > end:
            sys.exit(f"compare: {what} does not listen")
        time.sleep(0.02)


def cpu(pid):
    """Returns the CPU time of all threads of a process, in seconds."""
    tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def pss_kib(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1])


class Proxy:
    token = "none"

    def __init__(self, folder, origin):
        self.folder, self.origin, self.port = folder / self.name, origin, free_port()
        self.folder.mkdir()
        self.process = None
        self.start()

    def spawn(self, command):
        self.process = subprocess.Popen(command, preexec_fn=on_core(PROXY), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=(self.folder / "log").open("w"),
                                        start_new_session=True)
        wait_for_port(self.port, self.process, self.name)

    def written(self, name, text):
        path = self.folder / name
        path.touch(0o600)
        path.write_text(text.format(folder=self.folder, port=self.port, origin=self.origin, token=TOKEN))
        return path

    def stop(self):
        self.process.kill()
        self.process.wait()


class Nginx(Proxy):
    name, program = "nginx", "nginx"

    def start(self):
        self.spawn(["nginx", "-p", self.folder, "-c", self.written("nginx.conf", NGINX)])


class Haproxy(Proxy):
    name, program = "haproxy", "haproxy"

    def start(self):
        self.spawn(["haproxy", "-db", "-f", self.written("haproxy.cfg", HAPROXY)])


class Gateway(Proxy):
    name, program = "domo-token", None

    def start(self):
        self.domo = subprocess.Popen([BUILT / "domo-sandbox", "--port", "0"], stdout=subprocess.PIPE, text=True,
                                     preexec_fn=on_core(OTHERS))
        lines = []
        while not lines or not lines[-1].startswith("allow_http"):
            lines.append(self.domo.stdout.readline())
        client = "".join(line for line in lines if not line.startswith("#"))
        config = self.written("config.toml", client + GATEWAY)
        tokend = BUILT / "domo-tokend"
        added = subprocess.run([tokend, "app", "add", "bench", "--config", config], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
        if added.returncode:
            sys.exit(f"compare: app add: {added.stderr}")
        self.spawn([tokend, "--config", config, "--socket", self.folder / "broker.sock"])
        basic = base64.b64encode(f"bench:{added.stdout.strip()}".encode()).decode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/oauth/token?grant_type=client_credentials&scope=data",
            headers={"Authorization": f"Basic {basic}"},
        )
        self.token = json.load(urllib.request.urlopen(request, timeout=PATIENCE))["access_token"]

    def stop(self):
        super().stop()
        self.domo.kill()
        self.domo.wait()


def load(program, mode, proxy, *arguments):
    """Returns the wall time and the proxy's CPU time of one load."""
    before = cpu(proxy.process.pid)
    command = [program, mode, proxy.port, proxy.token, *arguments]
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, preexec_fn=on_core(OTHERS))
    if done.returncode:
        sys.exit(f"compare: {proxy.name}, {mode}: {done.stderr}")
    return float(done.stdout), cpu(proxy.process.pid) - before


def memory(program, proxy, direction):
    """Returns the proxy's memory per transfer that stands still, in KiB."""
    before = pss_kib(proxy.process.pid)
    holding = subprocess.Popen(
        [str(word) for word in [program, "hold", proxy.port, proxy.token, STREAMS, direction]],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=on_core(OTHERS),
    )
    holding.stdout.readline()
    held = pss_kib(proxy.process.pid) - before
    holding.kill()
    holding.wait()
    return held / STREAMS


ROWS = [
    # What, unit, the limit as a ratio to nginx, and as a value.
    ("CPU per small GET", "µs", 1.5, None),
    ("1 GiB down, wall time", "s", 1.0, None),
    ("1 GiB down, CPU", "s", 1.0, None),
    ("1 GiB up, wall time", "s", 1.0, None),
    ("1 GiB up, CPU", "s", 1.0, None),
    ("memory per stalled download", "KiB", None, 256),
    ("memory per stalled upload", "KiB", None, 256),
]


def measure(program, proxies, rounds, requests, size):
    """Returns the values of each row and proxy, in order of the rounds."""
    found = {(row[0], proxy.name): [] for row in ROWS for proxy in proxies}

    def add(row, proxy, value):
        found[ROWS[row][0], proxy.name].append(value)

    for proxy in proxies:
        load(program, "small", proxy, requests // 10, 16)
    for _ in range(rounds):
        for proxy in proxies:
            add(0, proxy, load(program, "small", proxy, requests, 16)[1] / requests * 1e6)
        for row, mode in [(1, "down"), (3, "up")]:
            for proxy in proxies:
                wall, spent = load(program, mode, proxy, size)
                add(row, proxy, wall * GIB / size)
                add(row + 1, proxy, spent * GIB / size)
    for row, direction in [(5, "down"), (6, "up")]:
        for proxy in proxies:
            # A new process: what earlier transfers needed is not free for these.
            proxy.stop()
            shutil.rmtree(proxy.folder)
            proxy.folder.mkdir()
            proxy.port = free_port()
            proxy.start()
            load(program, "small", proxy, 1000, 16)
            add(row, proxy, memory(program, proxy, direction))
    return found


def judge(found, names):
    """Returns the rows of the table: medians, the ratio to nginx, the limit, and whether it holds."""
    table = []
    for what, unit, most_ratio, most in ROWS:
        medians = {name: statistics.median(found[what, name]) for name in names}
        ratio = None
        if "nginx" in names:
            pairs = zip(found[what, "domo-token"], found[what, "nginx"])
            ratio = statistics.median(ours / max(theirs, 1e-9) for ours, theirs in pairs)
        ours = ratio if most_ratio else medians["domo-token"]
        limit = most_ratio or most
        table.append({"what": what, "unit": unit, "medians": medians, "ratio": ratio,
                      "limit": f"≤ {most_ratio:.1f} × nginx" if most_ratio else f"≤ {most} {unit}",
                      "met": None if ours is None else ours <= limit})
    return table


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--requests", type=int, default=40_000, help="small GETs in each round")
    options.add_argument("--mib", type=int, default=1024, help="size of a transfer")
    options.add_argument("--built", type=pathlib.Path, default=ROOT / "target/release", help="folder of the programs")
    options.add_argument("--without-gateway", action="store_true", help="measure only the other proxies")
    options.add_argument("--json", action="store_true")
    options = options.parse_args()
    global BUILT
    BUILT = options.built
    kinds = [] if options.without_gateway else [Gateway]
    for kind in (Nginx, Haproxy):
        if shutil.which(kind.program):
            kinds.append(kind)
        else:
            print(f"compare: {kind.program} is not installed; it is skipped", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        folder = pathlib.Path(folder)
        program = folder / "load"
        subprocess.run(["cc", "-O2", "-Wall", "-D_GNU_SOURCE", "-pthread", "-o", program, HERE / "load.c"], check=True)
        origin = subprocess.Popen([program, "origin"], stdout=subprocess.PIPE, text=True, preexec_fn=on_core(OTHERS))
        stack.callback(lambda: (origin.kill(), origin.wait()))
        port = int(origin.stdout.readline())
        proxies = []
        for kind in kinds:
            proxies.append(kind(folder, port))
            stack.callback(lambda proxy=proxies[-1]: proxy.stop())
        found = measure(program, proxies, options.rounds, options.requests, options.mib << 20)
        names = [proxy.name for proxy in proxies]
    if options.without_gateway:
        for (what, name), values in found.items():
            print(what, name, *[f"{value:.3f}" for value in values])
        return
    table = judge(found, names)
    if options.json:
        print(json.dumps(table, indent=1, ensure_ascii=False))
    else:
        print("| what |", " | ".join(names), "| ratio to nginx | limit | |")
        print("|---|" + "---|" * (len(names) + 3))
        for row in table:
            values = " | ".join(f"{row['medians'][name]:.3g} {row['unit']}" for name in names)
            ratio = "–" if row["ratio"] is None else f"{row['ratio']:.2f}"
            met = {True: "met", False: "missed", None: ""}[row["met"]]
            print(f"| {row['what']} | {values} | {ratio} | {row['limit']} | {met} |")
    sys.exit(any(row["met"] is False for row in table))


if __name__ == "__main__":
    main()
