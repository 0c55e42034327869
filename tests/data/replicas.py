"""Replicas of the servers of the tests, and a way to a server that takes longer or is frozen."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import ClassVar, TypeAlias
from urllib.parse import quote

from ..origins import wait_until
from ..processes import free_port
from .servers import DatabaseServer, MariaServer, PostgresServer


class PostgresReplica(PostgresServer):
    """A hot standby."""

    #: Changes something wherever it runs.
    WRITES: ClassVar[str] = "SELECT nextval('numbers') AS n"

    def __init__(self, primary: PostgresServer) -> None:
        self.primary, self.primary_url = primary, ""
        super().__init__()
        self.url = f"postgresql://app:{quote(self.password, safe='')}@127.0.0.1:{self.port}/postgres"

    def install(self) -> None:
        # A copy of the primary as it is.
        self.run(
            self.program("pg_basebackup"),
            *("--pgdata=data", "--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf", "--no-sync"),
            *(f"--host={self.primary.folder}", f"--port={self.primary.port}", "--username=app"),
        )

    def pause(self) -> None:
        self.sql("SELECT pg_wal_replay_pause()")
        wait_until(lambda: self.sql("SELECT pg_get_wal_replay_pause_state()") == "paused", what="the pause")

    def go_on(self) -> None:
        self.sql("SELECT pg_wal_replay_resume()")

    def has_all(self) -> bool:
        return self.sql("SELECT pg_last_wal_replay_lsn()") >= self.primary.sql("SELECT pg_current_wal_lsn()")


class MariaReplica(MariaServer):
    """A replica by GTID. Nothing but the edge keeps it from writing."""

    BINARY_LOG = ("--skip-log-bin", "--server-id=2")
    WRITES: ClassVar[str] = "SELECT NEXTVAL(numbers) AS n"

    def __init__(self, primary: MariaServer) -> None:
        self.primary, self.primary_url = primary, ""
        super().__init__()
        self.url = f"mysql://app:{quote(self.password, safe='')}@127.0.0.1:{self.port}/app"
        primary.sql("GRANT REPLICATION SLAVE ON *.* TO replica@'%' IDENTIFIED BY 'replica'")
        self.sql(
            f"CHANGE MASTER TO master_host='127.0.0.1', master_port={primary.port}, master_user='replica', "
            "master_password='replica', master_use_gtid=slave_pos, master_connect_retry=1; START SLAVE"
        )

    def install(self) -> None:
        # As the primary was when it began: its log has all that came after.
        self.run("cp", "-r", f"{self.primary.folder}/begin", "data")

    def pause(self) -> None:
        self.sql("STOP SLAVE SQL_THREAD")

    def go_on(self) -> None:
        self.sql("START SLAVE")

    def has_all(self) -> bool:
        return self.sql("SELECT @@gtid_slave_pos") == self.primary.sql("SELECT @@gtid_binlog_pos")


Replica: TypeAlias = PostgresReplica | MariaReplica


class Way:
    """A port that leads to a server, with a delay for each answer, until it is frozen."""

    def __init__(self, server: DatabaseServer, delay: float = 0.0) -> None:
        self.port, self.delay, self.target = free_port(), delay, server.port
        self.loop = asyncio.new_event_loop()
        self.open = asyncio.Event()
        self.open.set()
        started = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self.thread.start()
        assert started.wait(60)

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self.loop)
        self.server = self.loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port))
        started.set()
        self.loop.run_forever()
        self.server.close()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.close()

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            server, to_server = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            to_client.close()
            return
        with contextlib.suppress(OSError):
            await asyncio.gather(self._carry(client, to_server, 0), self._carry(server, to_client, self.delay))

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, delay: float) -> None:
        while data := await source.read(65_536):
            if delay:
                await asyncio.sleep(delay)
            await self.open.wait()
            target.write(data)
        target.close()

    def freeze(self) -> None:
        self.loop.call_soon_threadsafe(self.open.clear)

    def thaw(self) -> None:
        self.loop.call_soon_threadsafe(self.open.set)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(60)
