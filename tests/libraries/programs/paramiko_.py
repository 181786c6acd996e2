"""paramiko, whose Transport is a thread."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import paramiko

from libraries.probe import probe, servers


@contextmanager
def client() -> Iterator[paramiko.SSHClient]:
    ssh = paramiko.SSHClient()
    ssh.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    try:
        ssh.connect(
            servers.ssh["host"],
            servers.ssh["port"],
            "user",
            "right",
            allow_agent=False,
            look_for_keys=False,
            timeout=10,
        )
        yield ssh
    finally:
        ssh.close()


@probe
def command() -> None:
    with client() as ssh:
        _, output, _ = ssh.exec_command("echo word")
        assert output.read() == b"word\n"
        assert output.channel.recv_exit_status() == 0


@probe
def input_and_output() -> None:
    with client() as ssh:
        stdin, output, _ = ssh.exec_command("cat")
        stdin.write("x" * 200_000)
        stdin.channel.shutdown_write()
        assert len(output.read()) == 200_000


@probe
def two_at_once_over_one_transport() -> None:
    with client() as ssh:
        outputs = [ssh.exec_command("slow")[1] for _ in range(2)]
        assert [output.read() for output in outputs] == [b"slow\n", b"slow\n"]


@probe
def sftp() -> None:
    name = f"/{uuid.uuid4().hex}"
    with client() as ssh, ssh.open_sftp() as files:
        with files.open(name, "w") as file:
            file.write("x" * 100_000)
        assert files.stat(name).st_size == 100_000
        with files.open(name) as file:
            assert len(file.read()) == 100_000
        files.remove(name)


@probe(raises=TimeoutError)
def read_timeout() -> None:
    with client() as ssh:
        ssh.exec_command("slow", timeout=0.1)[1].read()


@probe(raises=paramiko.ssh_exception.NoValidConnectionsError)
def refused() -> None:
    with paramiko.SSHClient() as ssh:
        ssh.connect("127.0.0.1", servers.refused)


@probe(slow=True)
def slow() -> None:
    with client() as ssh:
        assert ssh.exec_command("slow")[1].read() == b"slow\n"
