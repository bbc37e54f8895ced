"""RAM that goes from process to process on one host: for `run`, whose tests these are."""
import os

from rig import TIMEOUT, check, ended, until


def held(process):
    """The memfds of RAM that a process has: (device, inode) of each."""
    found = set()
    for fd in os.listdir(f"/proc/{process.pid}/fd"):
        path = f"/proc/{process.pid}/fd/{fd}"
        try:
            if "aerie-ram" in os.readlink(path):
                stat = os.stat(path)
                found.add((stat.st_dev, stat.st_ino))
        except FileNotFoundError:
            pass # closed meanwhile
    return found


def hand_over(test):
    """RAM stays where it is, and goes from hand to hand; a process that had it can end in any way."""
    shared = {"size": "64M", "shared": True}
    machines = [test.machine(memory=shared)]
    ram = held(machines[0].process)
    check(len(ram) == 1)
    for i in range(int(os.environ.get("AERIE_TRIPS", "4"))):
        source = machines[-1]
        dest = test.listen(test.config(memory=shared)) if i != 1 else test.listen() # or it comes with the stream
        if i == 1:
            source.run("migrate-set-parameters", mode="cpr-transfer")
            source.run("migrate", uri=test.uri)
            info = until("the end", lambda: ended(source.run("query-migrate")))
            check(info["status"] == "completed", info)
            dest.connect()
        else:
            info = test.moved(source, dest, mode="cpr-transfer")
        check(info["ram"]["transferred"] == 0 and info["downtime"] < 1000, info)
        check(held(dest.process) == ram, "the destination has RAM of its own")
        if i % 2:
            source.process.kill()
            source.process.wait()
        else:
            source.run("quit")
            check(source.process.wait(TIMEOUT) == 0)
        dest.counts()
        machines.append(dest)
    test.sequence(*machines)


def hand_over_refused(test):
    """The source does not stop for what cannot be."""
    shared = {"size": "64M", "shared": True}
    own = test.machine()
    source = test.machine(memory=shared)
    local = {"mode": "cpr-transfer"}
    test.refused(own, "RAM is this process' own (memory.shared is false), it cannot be handed over", **local)
    test.refused(source, "needs a unix: URI", uri="tcp:127.0.0.1:1", **local)
    test.refused(source, "not with TLS", **dict(local, **{"tls-creds": "/etc"}))
    source.run("migrate-set-parameters", **{"tls-creds": ""})
    with open("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages") as file:
        if int(file.read()) >= 32: # else tests/memory/test_handover.c alone has shown it
            huge = test.machine(memory=dict(shared, hugepages="2M"))
            test.refused(huge, "RAM of huge pages (memory.hugepages) cannot be handed over", **local)
            test.sequence(huge)
            huge.end()
    dest = test.listen(test.config())
    test.refused(source, "the other side refuses: RAM is this process' own", **local)
    check(dest.process.wait(TIMEOUT) == 1)
    check("error" in source.ask("migrate-set-parameters", mode="cpr-reboot"))
    check(source.run("query-migrate-parameters")["mode"] == "cpr-transfer")
    test.moved(source, test.listen(test.config(memory=shared)), mode="normal") # and such RAM is copied, too
    test.sequence(own)


def hand_over_back(test):
    """The destination cannot have the disk, after the source has stopped: RAM is as it was."""
    shared = {"size": "64M", "shared": True}
    images = [os.path.join(test.folder, name) for name in ("a.img", "b.img")]
    for name in images:
        with open(name, "wb") as file:
            file.truncate(1 << 20)
    source = test.machine(memory=shared, devices=[{"type": "disk", "path": images[0]}])
    holder = test.machine(devices=[{"type": "disk", "path": images[1]}])
    dest = test.listen(test.config(memory=shared, devices=[{"type": "disk", "path": images[1]}]))
    info = test.move(source, mode="cpr-transfer")
    check(info["status"] == "failed" and "in use" in info["error-desc"], info)
    check(source.status() == "running", source.status())
    source.counts()
    check(dest.process.wait(TIMEOUT) == 1)
    holder.end()
    # RAM that is there beforehand is pinned for I/O; but this one has other pages then.
    last = test.listen(test.config(memory=dict(shared, prealloc=True), devices=[{"type": "disk", "path": images[0]}]), "-vv")
    test.moved(source, last, mode="cpr-transfer")
    check("RAM is registered" not in last.text(), "the disk would go on with pages that were left")
    test.sequence(source, last)


TESTS = {"hand-over": hand_over, "hand-over-refused": hand_over_refused, "hand-over-back": hand_over_back}
