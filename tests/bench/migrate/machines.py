"""What both benches of migration need: machines with RAM that is full, and their control sockets."""
import json, os, socket, subprocess, sys, time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
MIB = 1 << 20


class Qmp:
    """A control socket of aerie or QEMU, which say the same here."""

    def __init__(self, path):
        end = time.monotonic() + 60  # a busy host takes its time to find memory
        while True:
            try:
                self.socket = socket.socket(socket.AF_UNIX)
                self.socket.connect(path)
                break
            except OSError as error:
                if time.monotonic() > end:
                    sys.exit(f"{path}: {error}")
                time.sleep(0.005)
        self.file = self.socket.makefile("rw")
        self.file.readline()
        self.do("qmp_capabilities")

    def do(self, name, **arguments):
        self.file.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self.file.flush()
        while True:
            message = json.loads(self.file.readline())
            if "return" in message:
                return message["return"]
            if "error" in message:
                sys.exit(f"{name}: {message['error']['desc']}")

    def migrated(self, uri, poll=0.005):
        """The migration's own words about itself once it has come to its end."""
        self.do("migrate", uri=uri)
        while True:
            info = self.do("query-migrate")
            if info.get("status") in ("completed", "failed", "cancelled"):
                return info
            time.sleep(poll)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fill(process, mib, first_mib=4):
    """Random bytes in every page of RAM from `first_mib` on, which is above the guest's own few. From outside, since this
    machine's KVM emulates guests slowly."""
    with open(f"/proc/{process.pid}/maps") as file:
        for line in file:
            begin, end = (int(x, 16) for x in line.split()[0].split("-"))
            if end - begin == mib * MIB:
                break
        else:
            sys.exit("no mapping of the size of RAM")
    block = os.urandom(MIB)
    with open(f"/proc/{process.pid}/mem", "r+b", buffering=0) as memory:
        for at in range(first_mib * MIB, mib * MIB, MIB):
            memory.seek(begin + at)
            memory.write(block)


def end(process):
    """Its CPU seconds and its peak of memory in KiB."""
    process.kill()
    usage = os.wait4(process.pid, 0)[2]
    process.returncode = 0
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss


def quiet(command, **options):
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
