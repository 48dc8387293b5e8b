import socket
import threading
import time
from contextlib import contextmanager

import pytest
import uvicorn

from qasir.app import connections
from qasir.app.connections import configured
from qasir.app.door import WRONG_TOKENS
from qasir.app.guard import KINDS, Guard
from qasir.app.settings import AppSettings
from tests.qasir.app.guarded import behind

GET = b"GET /api/search?q=a HTTP/1.1\r\nHost: localhost\r\n"


@contextmanager
def serving(settings, requests=64):
    server = uvicorn.Server(configured(Guard(behind(), settings), requests, port=0))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def connected(port):
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def status(connection):
    answer = b""
    while b"\r\n\r\n" not in answer:
        some = connection.recv(65536)
        assert some, "it was closed"
        answer += some
    return int(answer.split(b" ", 2)[1])


def test_a_connection_that_asks_for_nothing_is_closed(monkeypatch):
    monkeypatch.setattr(connections, "HEADERS_S", 0.5)
    with serving(AppSettings()) as port:
        for begun in (b"", b"GET / HT", GET):
            with connected(port) as connection:
                connection.sendall(begun)
                assert connection.recv(1) == b"", begun
        with connected(port) as connection:
            for _ in range(2):
                connection.sendall(GET + b"\r\n")
                assert status(connection) == 200
            connection.sendall(GET)
            assert b"".join(iter(lambda: connection.recv(65536), b"")).count(b"HTTP/1.1") == 0


def test_a_request_that_is_worked_on_is_not(monkeypatch):
    monkeypatch.setattr(connections, "HEADERS_S", 0.2)
    with serving(AppSettings()) as port, connected(port) as connection:
        connection.sendall(b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\na")
        time.sleep(0.5)
        connection.sendall(b"b")
        assert status(connection) == 200


def test_there_are_so_many_connections(monkeypatch):
    monkeypatch.setattr(connections, "_IDLE", 0)
    with serving(AppSettings(), requests=1) as port:
        idle = [connected(port) for _ in range(len(KINDS))]
        with connected(port) as connection:
            connection.sendall(GET + b"\r\n")
            assert status(connection) == 503
        for one in idle:
            one.close()


@pytest.mark.parametrize("header", [b"X-Forwarded-For", b"Forwarded", b"X-Real-IP"])
def test_a_client_that_gives_itself_addresses_is_one_client(header):
    with serving(AppSettings(token="t")) as port:
        got = []
        for i in range(WRONG_TOKENS + 1):
            with connected(port) as connection:
                connection.sendall(GET + header + b": 10.0.0.%d\r\nAuthorization: Bearer x\r\n\r\n" % i)
                got.append(status(connection))
    assert got == [401] * WRONG_TOKENS + [429]
