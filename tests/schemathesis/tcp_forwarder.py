#!/usr/bin/env python3
"""Forwards TCP connections of this machine to a Unix socket, for programs that cannot connect to one:
tcp_forwarder.py SOCKET. Prints the port, and serves until it is killed. Only for tests: every local user can connect."""
import asyncio
import sys


async def copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()


async def forward(reader, writer):
    to_reader, to_writer = await asyncio.open_unix_connection(sys.argv[1])
    await asyncio.gather(copy(reader, to_writer), copy(to_reader, writer))
    to_writer.close()
    writer.close()


async def main():
    server = await asyncio.start_server(forward, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
