#!/usr/bin/env python3
"""Requests a token, the status and an error by a client that openapi-python-client generated:
generated_client.py FOLDER_OF_THE_CLIENT SOCKET. Requires httpx and attrs."""
import sys

sys.path.insert(0, sys.argv[1])

import httpx
from domo_token_broker_client import Client
from domo_token_broker_client.api.status import get_status
from domo_token_broker_client.api.token import get_token
from domo_token_broker_client.models import Problem, ProblemType, Token

transport = httpx.HTTPTransport(uds=sys.argv[2])
client = Client(base_url="http://localhost", httpx_args={"transport": transport})

token = get_token.sync("data,user", client=client, min_ttl="1m")
assert isinstance(token, Token) and token.access_token, type(token)
assert token.scope == "data user", token.scope
other = get_token.sync("data,user", client=client, rejected=token.generation + 1)
assert isinstance(other, Token) and other.generation == token.generation, type(other)

problem = get_token.sync("audit", client=client)
assert isinstance(problem, Problem), type(problem)
assert problem.type_ == ProblemType.URNDOMO_TOKENUNKNOWN_SCOPE, problem.type_
assert problem.exit_code == 78, problem.exit_code

status = get_status.sync(client=client)
assert [line.scope for line in status.tokens] == ["data", "data user"], status.tokens
assert all(line.state == "fresh" for line in status.tokens), status.tokens
