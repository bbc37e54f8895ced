"""RUN was sent and nobody knows whether it came: for `run`, whose tests these are."""
import os

from rig import TIMEOUT, check, until
from relay import RUN, Relay


def with_disk(test):
    """What a machine has that only one side may run."""
    image = os.path.join(test.folder, "disk.img")
    with open(image, "wb") as file:
        file.truncate(1 << 20)
    return {"memory": {"size": "64M", "shared": True}, "devices": [{"type": "disk", "path": image}]}


def fall_in_doubt(test, source, mode, **relay):
    """By a relay that does not pass the answer to RUN, or RUN itself."""
    path = os.path.join(test.folder, "relay-" + mode)
    Relay(path, test.uri[5:], **relay)
    info = test.move(source, "unix:" + path, mode=mode)
    check(info["status"] == "failed" and info.get("in-doubt"), info)


def in_doubt(test):
    """The source holds still until it is told that the machine does not run on the other side; RAM is as it was."""
    more = with_disk(test)
    for mode in "cpr-transfer", "normal":
        source = test.machine(**more)
        dest = test.listen(test.config(**more))
        check("there is no doubt" in source.ask("migrate-resume-here")["error"]["desc"])
        fall_in_doubt(test, source, mode, cut_before=RUN)
        check(source.status() == "postmigrate", source.status())
        check("error" in source.ask("cont") and "error" in source.ask("migrate", uri=test.uri), "it goes on unasked")
        answer = source.ask("snapshot-save", dir=os.path.join(test.folder, "snapshot"))
        check("not while the machine is in status" in answer["error"]["desc"], answer)
        check(dest.process.wait(TIMEOUT) == 1, "the destination has not heard RUN")
        seen = len(source.numbers())
        source.run("migrate-resume-here")
        check(source.status() == "running", source.status())
        until("the guest counts", lambda: len(source.numbers()) > seen + 2)
        check("there is no doubt" in source.ask("migrate-resume-here")["error"]["desc"])
        test.sequence(source, dest)
        last = test.listen(test.config(**more)) # what it has is whole, and can go on its way
        test.moved(source, last, mode=mode)
        test.sequence(source, dest, last)
        source.end()
        last.end()


def in_doubt_there(test):
    """It does run on the other side, which has the disk: the source is told so, and takes nothing back."""
    more = with_disk(test)
    for mode in "cpr-transfer", "normal":
        source = test.machine(**more)
        dest = test.listen(test.config(**more))
        fall_in_doubt(test, source, mode, mute_from=RUN)
        until("it runs there", lambda: dest.status() == "running")
        for _ in range(2):
            check("in use" in source.ask("migrate-resume-here")["error"]["desc"])
            check(source.status() == "postmigrate", source.status())
        dest.counts()
        test.sequence(source, dest)
        source.end()
        dest.counts()
        dest.end()


TESTS = {"in-doubt": in_doubt, "in-doubt-there": in_doubt_there}
