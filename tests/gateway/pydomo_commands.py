"""Calls Domo by pydomo, Domo's SDK for Python, as commands on standard input request.

Usage: python pydomo_commands.py HOST ID SECRET SCOPES. Each command gets one line: "ok", or "failed" and the error.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

from pydomo import Domo
from pydomo.datasets import Column, ColumnType, DataSetRequest, Schema
from pydomo.streams import CreateStreamRequest

MIB = 1 << 20
ROW = "x" * (MIB - 1) + "\n"


def equal(found, expected):
    if found != expected:
        raise AssertionError(f"found {found!r}, expected {expected!r}")


def request(name):
    dataset = DataSetRequest()
    dataset.name = name
    dataset.description = ""
    dataset.schema = Schema([Column(ColumnType.STRING, "Text")])
    return dataset


class Commands:
    def __init__(self, domo):
        self.domo = domo
        self.kept = None

    def list(self):
        """Lists datasets: one small GET."""
        if not list(self.domo.datasets.list(limit=2)):
            raise AssertionError("no datasets")

    def users(self):
        self.domo.users.list(10, 0)

    def query(self):
        """Queries a dataset of the sandbox's."""
        dataset = next(iter(self.domo.datasets.list(limit=1)))["id"]
        self.domo.datasets.query(dataset, "SELECT * FROM table LIMIT 1")

    def prepare(self):
        """Creates the dataset of `upload`."""
        self.kept = self.domo.datasets.create(request("Kept"))["id"]

    def upload(self, mib):
        """Imports that many MiB into the dataset of `prepare`: one call."""
        self.domo.datasets.data_import(self.kept, ROW * int(mib))

    def download(self, mib):
        """Exports what `upload` imported: one call."""
        found = self.domo.datasets.data_export(self.kept, False)
        equal(len(found), int(mib) * MIB)

    def discard(self):
        self.domo.datasets.delete(self.kept)

    def parts(self, count):
        """Uploads parts of a stream in parallel."""
        streams, count = self.domo.streams, int(count)
        stream = streams.create(CreateStreamRequest(request("Parts"), "REPLACE"))
        try:
            execution = streams.create_execution(stream["id"])["id"]
            rows = [f"{number:04}\n" * 1000 for number in range(count)]

            def upload(number):
                streams.upload_part(stream["id"], execution, number + 1, rows[number])

            with ThreadPoolExecutor(8) as pool:
                list(pool.map(upload, range(count)))
            equal(streams.commit_execution(stream["id"], execution)["currentState"], "SUCCESS")
            found = self.domo.datasets.data_export(stream["dataSet"]["id"], False)
            equal(found, "".join(rows))
        finally:
            streams.delete(stream["id"])
            self.domo.datasets.delete(stream["dataSet"]["id"])


def main(host, client, secret, scopes):
    commands = Commands(Domo(client, secret, api_host=host, use_https=False, scope=scopes.split()))
    print("ok", flush=True)
    for line in sys.stdin:
        name, *arguments = line.split()
        try:
            getattr(commands, name)(*arguments)
            print("ok", flush=True)
        except Exception as error:
            print("failed", f"{type(error).__name__}: {error}".replace("\n", " "), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
