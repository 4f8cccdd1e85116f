"""Calls of pydomo, Domo's SDK for Python, against a sandbox.

Usage: pydomo_calls.py HOST ID SECRET, with a sandbox that serves HTTP on HOST. The calls that it makes are those of pydomo's
examples, README and utilities.
"""

import sys
import tempfile
from pathlib import Path

import pandas
from pydomo import Domo
from pydomo.datasets import (
    Column,
    ColumnType,
    DataSetRequest,
    FilterOperator,
    Policy,
    PolicyFilter,
    PolicyType,
    Schema,
    Sorting,
    UpdateMethod,
)
from pydomo.groups import CreateGroupRequest
from pydomo.streams import CreateStreamRequest
from pydomo.users import CreateUserRequest

CSV = '"Pythagoras","FALSE"\n"Alan Turing","TRUE"\n"George Boole","TRUE"\n'
EXPORTED = "Friend,Attending\nPythagoras,FALSE\nAlan Turing,TRUE\nGeorge Boole,TRUE\n"


def equal(found, expected):
    if found != expected:
        raise AssertionError(f"found {found!r}, expected {expected!r}")


def fails(call, text):
    """Checks that a call raises pydomo's exception with that text."""
    try:
        call()
    except Exception as error:
        if text not in str(error):
            raise AssertionError(f"{text!r} is not in {error}") from error
        return
    raise AssertionError(f"no error with {text!r}")


def party():
    request = DataSetRequest()
    request.name = "Euler's guests"
    request.description = "Mathematician Guest List"
    request.schema = Schema(
        [Column(ColumnType.STRING, "Friend"), Column(ColumnType.STRING, "Attending")]
    )
    return request


def datasets(domo):
    datasets = domo.datasets
    before = [dataset["name"] for dataset in datasets.list()]
    equal(before, ["Leonhard Euler Party", "Questions regarding Euclid"])
    created = datasets.create(party())
    equal((created["rows"], created["columns"]), (0, 0))
    dataset = created["id"]
    equal(datasets.get(dataset)["schema"]["columns"][0], {"type": "STRING", "name": "Friend"})
    names = [found["name"] for found in datasets.list(sort=Sorting.NAME, per_page=1)]
    equal(names, sorted([*before, "Euler's guests"]))
    equal(len(list(datasets.list(limit=2))), 2)
    equal([d["id"] for d in datasets.list(name_like="euler's")], [dataset])

    update = party()
    update.name = "Guests"
    update.owner = {"id": 28, "name": "Carl Friedrich Gauss"}
    equal(datasets.update(dataset, update)["name"], "Guests")

    datasets.data_import(dataset, CSV)
    equal(datasets.data_export(dataset, True), EXPORTED)
    equal(datasets.data_export(dataset, False), EXPORTED.split("\n", 1)[1])
    datasets.data_import(dataset, "Ada,\n", UpdateMethod.APPEND)
    equal(datasets.get(dataset)["rows"], 4)
    with tempfile.TemporaryDirectory() as folder:
        datasets.data_export_to_file(dataset, f"{folder}/math.csv", True).close()
        equal(Path(f"{folder}/math.csv").read_text(), EXPORTED + "Ada,\n")
        # The header of an export is not a row of the import.
        datasets.data_import_from_file(dataset, f"{folder}/math.csv")
    equal(datasets.get(dataset)["rows"], 4)
    fails(lambda: datasets.data_import(dataset, "1,2,3"), "3 values")

    sql = "SELECT Friend FROM table WHERE Attending = 'TRUE' ORDER BY Friend DESC"
    result = datasets.query(dataset, sql)
    equal((result["columns"], result["numRows"]), (["Friend"], 2))
    equal(result["rows"], [["George Boole"], ["Alan Turing"]])
    fails(lambda: datasets.query(dataset, "DELETE FROM table"), "unsupported")
    policies(datasets, dataset)
    datasets.delete(dataset)
    fails(lambda: datasets.get(dataset), "Not Found")


def policies(datasets, dataset):
    attending = PolicyFilter()
    attending.column = "Attending"
    attending.operator = FilterOperator.EQUALS
    attending.values = ["TRUE"]
    request = Policy()
    request.name = "Only guests"
    request.filters = [attending]
    request.type = PolicyType.USER
    request.users = [998, 999]
    request.groups = [99, 100]
    policy = datasets.create_pdp(dataset, request)
    equal(datasets.get_pdp(dataset, policy["id"])["filters"][0]["not"], False)
    attending["not"] = True
    equal(datasets.update_pdp(dataset, policy["id"], request)["filters"][0]["not"], True)
    equal(len(datasets.list_pdps(dataset)), 1)
    datasets.delete_pdp(dataset, policy["id"])
    equal(datasets.list_pdps(dataset), [])


def streams(domo):
    streams = domo.streams
    stream = streams.create(CreateStreamRequest(party(), "APPEND"))
    dataset = stream["dataSet"]["id"]
    equal(streams.get(stream["id"])["dataSet"]["name"], "Euler's guests")
    equal([found["id"] for found in streams.list(1000, 0)], [stream["id"]])
    updated = streams.update(stream["id"], CreateStreamRequest(party(), "REPLACE"))
    equal(updated["updateMethod"], "REPLACE")
    equal(len(streams.search("dataSource.name:Euler's guests")), 1)
    equal(len(streams.search("dataSource.id:other")), 0)

    execution = streams.create_execution(stream["id"])["id"]
    equal(streams.get_execution(stream["id"], execution)["currentState"], "ACTIVE")
    equal(len(streams.list_executions(stream["id"], 50, 0)), 1)
    rows = CSV.splitlines(keepends=True)
    with tempfile.TemporaryDirectory() as folder:
        Path(f"{folder}/part.csv").write_text("".join(rows[1:]))
        upload = streams.upload_gzip_part_from_file
        upload(stream["id"], execution, 2, f"{folder}/part.csv", False, None)
        upload(stream["id"], execution, 2, f"{folder}/part.csv", True, 1024)
    streams.upload_part(stream["id"], execution, 1, rows[0])
    equal(domo.datasets.data_export(dataset, True), "Friend,Attending\n")
    committed = streams.commit_execution(stream["id"], execution)
    equal(committed["currentState"], "SUCCESS")
    equal(domo.datasets.data_export(dataset, True), EXPORTED)

    execution = streams.create_execution(stream["id"], "APPEND")["id"]
    aborted = streams.abort_execution(stream["id"], execution)
    equal(aborted["currentState"], "ABORTED")
    fails(lambda: streams.upload_part(stream["id"], execution, 1, CSV), "not ACTIVE")
    execution = streams.create_execution(stream["id"])["id"]
    streams.abort_current_execution(stream["id"])
    equal(streams.get_execution(stream["id"], execution)["currentState"], "ABORTED")
    streams.delete(stream["id"])
    domo.datasets.delete(dataset)


def utilities(domo):
    frame = pandas.DataFrame(
        {
            "name": ["Ada", "Alan", None],
            "born": [1815, 1912, 1815],
            "score": [1.5, None, -2.25],
            "day": pandas.to_datetime(["2024-01-01", "2024-01-02", "2024-01-03"]),
        }
    )
    dataset = domo.ds_create(frame, "From pandas", "A frame")
    kinds = [column["type"] for column in domo.ds_meta(dataset)["schema"]["columns"]]
    equal(kinds, ["STRING", "LONG", "DOUBLE", "DATETIME"])
    equal(domo.ds_get(dataset).to_csv(), frame.to_csv())
    equal([row["name"] for row in domo.ds_get_dict(dataset)], ["Ada", "Alan", ""])
    result = domo.ds_query(dataset, "SELECT name, born FROM table WHERE born < 1900")
    equal(result.fillna("").values.tolist(), [["Ada", 1815], ["", 1815]])
    count = domo.ds_query(dataset, "SELECT count(*) AS n FROM table")
    equal(count["n"].tolist(), [3])

    # Another schema.
    domo.ds_update(dataset, frame[["name", "born"]].iloc[:1])
    equal(domo.datasets.data_export(dataset, True), "name,born\nAda,1815\n")
    equal("From pandas" in domo.ds_list()["name"].tolist(), True)
    domo.ds_delete(dataset, prompt_before_delete=False)

    upsert = domo.ds_create(frame[["name", "born"]], "Keys", "", "UPSERT", ["born"])
    equal(domo.datasets.data_export(upsert, False), "Alan,1912\n,1815\n")
    domo.ds_delete(upsert, prompt_before_delete=False)


def users_and_groups(domo):
    request = CreateUserRequest()
    request.name = "Ada Lovelace"
    request.email = "ada@example.com"
    request.role = "Admin"
    user = domo.users.create(request, False)
    equal(domo.users.get(user["id"])["email"], "ada@example.com")
    fails(lambda: domo.users.create(request, False), "another user has this email")
    equal(len(domo.users_list()), 2)
    request.role = "Participant"
    equal(domo.users.update(user["id"], request)["role"], "Participant")

    request = CreateGroupRequest()
    request.name = "Programmers"
    request.active = "true"
    group = domo.groups.create(request)
    domo.groups_add_users(group["id"], [user["id"]])
    equal(domo.groups_list_users(group["id"]), [user["id"]])
    equal(domo.groups.get(group["id"])["memberCount"], 1)
    equal(domo.users.get(user["id"])["groups"][0]["name"], "Programmers")
    request.active = False
    domo.groups.update(group["id"], request)
    equal(domo.groups_list()["active"].tolist(), [False])
    domo.groups_delete(group["id"])
    equal(domo.groups.list(10, 0), [])
    domo.users.delete(user["id"])
    fails(lambda: domo.users.get(user["id"]), "Not Found")


def pages(domo):
    page = domo.pages.create("My page", locked=False)
    child = domo.pages.create("Subpage", parentId=page["id"], cardIds=[1, 2])
    equal([found["name"] for found in domo.page_list()], ["My page"])
    equal(domo.page_list()[0]["children"][0]["id"], child["id"])
    domo.pages.update(child["id"], locked=True, cardIds=[3])
    found = domo.pages.get(child["id"])
    equal((found["locked"], found["cardIds"], found["parentId"]), (True, [3], page["id"]))
    collection = domo.pages.create_collection(page["id"], "Collection")
    domo.pages.update_collection(page["id"], collection["id"], description="text")
    collections = domo.pages.get_collections(page["id"])
    equal(collections[0]["description"], "text")
    domo.pages.update_collection(page["id"], **collections[0])
    domo.pages.delete_collection(page["id"], collection["id"])
    equal(domo.pages.get_collections(page["id"]), [])
    domo.pages.delete(child["id"])
    domo.pages.delete(page["id"])
    equal(list(domo.pages.list()), [])


def scopes(host, client_id, secret):
    domo = Domo(client_id, secret, api_host=host, use_https=False, scope=["user"])
    fails(lambda: list(domo.datasets.list()), "scope")
    fails(lambda: list(domo.pages.list()), "scope")
    equal(len(domo.users.list(10, 0)), 1)


def main(host, client_id, secret):
    domo = Domo(client_id, secret, api_host=host, use_https=False)
    for part in (datasets, streams, utilities, users_and_groups, pages):
        part(domo)
        print(f"{part.__name__}: ok")
    scopes(host, client_id, secret)
    print("scopes: ok")


if __name__ == "__main__":
    main(*sys.argv[1:])
