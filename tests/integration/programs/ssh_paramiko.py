"""What a program that uses paramiko does: commands, a terminal, SFTP, forwarding, rekeying.

Usage: ssh_paramiko.py PORT KEY. Prints "fine" when all of it worked.
"""

import hashlib
import os
import socket
import sys
import threading

import paramiko

port, key = int(sys.argv[1]), paramiko.Ed25519Key.from_private_key_file(sys.argv[2])


def client(**how):
    c = paramiko.SSHClient()
    c.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    c.connect("127.0.0.1", port, "root", look_for_keys=False, allow_agent=False, timeout=60, banner_timeout=60,
              auth_timeout=60, **how)
    return c


def same(found, wanted):
    if found != wanted:
        raise SystemExit(f"{found!r}, not {wanted!r}")


for refused in ({"pkey": paramiko.RSAKey.generate(2048)}, {"password": ""}, {"password": "root"}):
    try:
        client(**refused)
    except paramiko.AuthenticationException:
        continue
    raise SystemExit(f"let in by {refused}")

c = client(pkey=key)
# A command's input, output, errors and status.
stdin, stdout, stderr = c.exec_command("cat; echo oops >&2; exit 7")
stdin.write("typed")
stdin.channel.shutdown_write()
same((stdout.read(), stderr.read(), stdout.channel.recv_exit_status()), (b"typed", b"oops\n", 7))

# Many channels on one connection.
channels = [c.exec_command(f"echo {n}")[1] for n in range(8)]
same([out.read() for out in channels], [b"%d\n" % n for n in range(8)])

# A shell at a terminal that changes size.
shell = c.invoke_shell(term="vt100", width=70, height=20)
shell.settimeout(60)


def heard(wanted):
    said = b""
    while wanted not in said:
        more = shell.recv(4096)
        if not more:
            raise SystemExit(f"{said!r} without {wanted!r}")
        said += more


heard(b"# ")
shell.send(b"stty size; echo $TERM\n")
heard(b"20 70\r\n")
heard(b"vt100\r\n")
shell.resize_pty(width=71, height=21)
shell.send(b"until [ \"$(stty size)\" = '21 71' ]; do sleep 0.1; done; echo si''zed\n")
heard(b"sized\r\n")
shell.send(b"exit 5\n")
same(shell.recv_exit_status(), 5)

# Files.
sftp = c.open_sftp()
noise = os.urandom(5 << 20)
with sftp.open("/root/noise", "wb") as f:
    f.set_pipelined(True)
    f.write(noise)
sftp.chmod("/root/noise", 0o640)
sftp.utime("/root/noise", (1_600_000_000, 1_600_000_001))
status = sftp.stat("/root/noise")
same((status.st_size, status.st_mode & 0o7777, status.st_mtime), (len(noise), 0o640, 1_600_000_001))
with sftp.open("/root/noise", "rb") as f:
    f.prefetch()
    same(hashlib.sha256(f.read()).digest(), hashlib.sha256(noise).digest())
    f.seek(1_000_000)
    same(f.read(10), noise[1_000_000:1_000_010])
sftp.rename("/root/noise", "/root/quiet")
sftp.symlink("quiet", "/root/link")
same(sftp.readlink("/root/link"), "quiet")
same(sorted(name for name in sftp.listdir("/root") if not name.startswith(".")), ["link", "quiet"])
same(sftp.normalize("."), "/root")
sftp.truncate("/root/quiet", 3)
same(sftp.stat("/root/link").st_size, 3)
sftp.mkdir("/root/folder", 0o700)
same(oct(sftp.stat("/root/folder").st_mode), "0o40700")
sftp.rmdir("/root/folder")
sftp.remove("/root/link")
try:
    sftp.stat("/root/link")
    raise SystemExit("a removed file is still there")
except FileNotFoundError:
    pass

# A connection through the guest to itself, and keys changed under way.
tunnel = c.get_transport().open_channel("direct-tcpip", ("127.0.0.1", 22), ("127.0.0.1", 0))
tunnel.settimeout(60)
same(tunnel.recv(8), b"SSH-2.0-")
tunnel.close()
c.get_transport().renegotiate_keys()
same(c.exec_command("echo again")[1].read(), b"again\n")

# From the guest to here.
listener = socket.create_server(("127.0.0.1", 0))
there = c.get_transport().request_port_forward("127.0.0.1", 0)
asked = threading.Thread(target=lambda: c.exec_command(f"printf hello | nc -w 20 127.0.0.1 {there}")[1].read())
asked.start()
channel = c.get_transport().accept(60)
same(channel.recv(5), b"hello")
channel.close()
asked.join()
c.close()
print("fine")
