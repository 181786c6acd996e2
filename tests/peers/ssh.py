"""An SSH server that lets everyone in, with SFTP below a directory.

ssh.py PORT DIRECTORY

It knows three commands: `echo WORD`, `cat`, which gives its input back, and `slow`, which takes
0.3 s.
"""

from __future__ import annotations

import asyncio
import sys

import asyncssh


class Everyone(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return password == "right"


async def command(process: asyncssh.SSHServerProcess[str]) -> None:
    name, *arguments = (process.command or "").split()
    match name:
        case "echo":
            process.stdout.write(" ".join(arguments) + "\n")
        case "cat":
            process.stdout.write(await process.stdin.read())
        case "slow":
            await asyncio.sleep(0.3)
            process.stdout.write("slow\n")
    process.exit(3 if name == "fail" else 0)


async def main(port: str, directory: str) -> None:
    await asyncssh.listen(
        "127.0.0.1",
        int(port),
        server_factory=Everyone,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        process_factory=command,
        sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=directory.encode()),
    )
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
