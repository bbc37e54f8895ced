"""Post-copy between aerie processes: for `run`, whose tests these are."""
import os, signal, socket

from rig import TIMEOUT, check, make_keys, until
from relay import PAGES, RUN, Relay

RESUME = 20
TLS_HANDSHAKE = 22 # a record's type (RFC 8446, 5.1)


def late(test, source, relay=None, uri=None, then=0):
    """Begins, and switches over in the first round, in which most pages are still to come, at `then` bytes a second."""
    source.run("migrate-set-parameters", **{"postcopy-ram": True, "downtime-limit": 1, "max-bandwidth": 1 << 20})
    source.run("migrate", uri=uri or test.uri)
    until("active", lambda: source.run("query-migrate")["status"] == "active")
    source.run("migrate-start-postcopy")
    source.run("migrate-set-parameters", **{"max-bandwidth": then})
    if relay:
        relay.go.set()


def migrates(aerie, status):
    return until(status, lambda: (info := aerie.run("query-migrate"))["status"] == status and info)


def postcopy(test):
    """With private RAM, shared RAM, and RAM that is there beforehand."""
    image = os.path.join(test.folder, "disk.img")
    with open(image, "wb") as file:
        file.truncate(1 << 20)
    memories = {"size": "256M"}, {"size": "256M", "shared": True}, {"size": "64M", "prealloc": True}
    for memory in memories:
        more = {"memory": memory, "devices": [{"type": "disk", "path": image}, {"type": "rng"}]}
        source = test.machine(**more)
        dest = test.listen(test.config(**more))
        late(test, source)
        info = migrates(source, "completed")
        check(migrates(dest, "completed")["ram"]["remaining"] == 0)
        check(source.status() == "postmigrate" and dest.status() == "running", info)
        dest.counts()
        dest.run("stop")
        dest.run("cont")
        last = test.listen(test.config(**more)) # it is as whole as any other machine
        dest.run("migrate-set-parameters", **{"max-bandwidth": 0})
        test.moved(dest, last)
        test.sequence(source, dest, last)
        for machine in (source, dest, last):
            machine.end()


def paused_late(test):
    """A machine whose pages do not come any more; both sides and the relay to a new connection."""
    memory = {"size": "256M"}
    source = test.machine(memory=memory)
    dest = test.listen(test.config(memory=memory))
    path = os.path.join(test.folder, "relay")
    relay = Relay(path, test.uri[5:], hold=True, cut_after=RUN)
    late(test, source, relay, "unix:" + path, 1 << 20) # while the state is loaded pages go, too: not all of them
    migrates(source, "postcopy-paused")
    source.run("migrate-set-parameters", **{"max-bandwidth": 0})
    check(migrates(dest, "postcopy-paused")["ram"]["remaining"] > 0)
    return source, dest, path


def postcopy_paused(test):
    source, dest, path = paused_late(test)
    check(dest.status() == "running" and source.status() == "postmigrate")
    for command in "stop", "query-nested", "query-stats":
        check("error" in dest.ask(command, **({"target": "vm"} if command == "query-stats" else {})), command)
    check("error" in source.ask("migrate_cancel") and "error" in source.ask("migrate", uri=test.uri))
    for cut_after in RESUME, PAGES, None:
        dest.run("migrate-recover", uri=test.uri)
        relay = Relay(path, test.uri[5:], cut_after=cut_after)
        source.run("migrate", uri="unix:" + path, resume=True)
        if cut_after:
            check(relay.ended.wait(TIMEOUT), "another break")
            migrates(source, "postcopy-paused")
            migrates(dest, "postcopy-paused")
    migrates(source, "completed")
    migrates(dest, "completed")
    check(not os.path.exists(test.uri[5:]), "it still listens for a source")
    dest.counts()
    test.sequence(source, dest)


def postcopy_ends(test):
    """Each side ends while the other needs it, by quit, by a signal and by SIGKILL: at once, and said clearly."""
    for way in "quit", signal.SIGTERM, signal.SIGKILL:
        source, dest, _ = paused_late(test)
        for side, code in (dest, 1), (source, 0):
            if way == "quit":
                side.ask("quit")
            else:
                side.process.send_signal(way)
            check(side.process.wait(TIMEOUT) == (-way if way == signal.SIGKILL else code), side.text()[-300:])
        if way != signal.SIGKILL:
            check("the guest is lost" in dest.text(), dest.text()[-300:])
        os.path.exists(test.uri[5:]) and os.unlink(test.uri[5:])


def postcopy_tls(test):
    """Encrypted from the first connection to the last."""
    keys = os.path.join(test.folder, "keys")
    make_keys(keys, "that-host")
    memory = {"size": "256M"}
    source = test.machine(memory=memory)
    dest = test.listen(test.config(memory=memory), "--incoming-tls", keys)
    path = os.path.join(test.folder, "relay")
    relay = Relay(path, test.uri[5:], opaque=True)
    source.run("migrate-set-parameters", **{"postcopy-ram": True, "downtime-limit": 1, "max-bandwidth": 1 << 20,
                                            "tls-creds": keys, "tls-hostname": "that-host"})
    source.run("migrate", uri="unix:" + path)
    until("pages", lambda: source.run("query-migrate").get("ram", {}).get("transferred"))
    source.run("migrate-start-postcopy")
    until("the guest is there", lambda: dest.status() == "running")
    relay.cut()
    migrates(source, "postcopy-paused")
    check(migrates(dest, "postcopy-paused")["ram"]["remaining"] > 0)
    dest.run("migrate-recover", uri=test.uri)
    for stranger in b"x" * 100, b"": # it talks to nobody who has no keys, and waits for the next one
        with socket.socket(socket.AF_UNIX) as visitor:
            visitor.connect(test.uri[5:])
            visitor.settimeout(TIMEOUT)
            visitor.sendall(stranger)
            visitor.shutdown(socket.SHUT_WR)
            try:
                while visitor.recv(4096):
                    pass
            except ConnectionResetError:
                pass
    check(dest.status() == "running")
    # Its keys are those with which it began.
    source.run("migrate-set-parameters", **{"tls-creds": "", "tls-hostname": "", "max-bandwidth": 0})
    again = Relay(path, test.uri[5:], opaque=True)
    source.run("migrate", uri="unix:" + path, resume=True)
    migrates(source, "completed")
    migrates(dest, "completed")
    check(relay.first[0] == again.first[0] == TLS_HANDSHAKE, relay.first, again.first)
    dest.counts()
    test.sequence(source, dest)


TESTS = {"postcopy": postcopy, "postcopy-paused": postcopy_paused, "postcopy-tls": postcopy_tls, "postcopy-ends": postcopy_ends}
