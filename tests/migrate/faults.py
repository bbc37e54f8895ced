"""Every host call of one side fails once while a machine moves: for `run`, whose tests these are.

The machine goes from process to process, and each has tests/fault/fault.c in it. In the span from `migrate` to its end
one call of one side fails. Rules:

- Exactly one side runs afterwards. In doubt the source says so, and is asked to go on when the other side has ended.
- What the guest counts is whole over all processes that had it, and nobody else prints a number.
- What fails has a reason that says more than the host's error, at the source or at the side that failed.
- A destination ends by itself with a message, or listens on if nobody has got through to it.
- EINTR and short transfers are not noticed at all. Nothing hangs. A client is hung up on only when memory is short.

AERIE_FAULTS and AERIE_SEED: see choose in tests/fault/plan.py.
"""
import errno, json, os, re, sys, time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "fault"))
from rig import TIMEOUT, Aerie, Failure, check, until
from plan import FAR, Plan, choose, code_of, in_time

SOON = 25 # seconds: nobody waits for who does not answer (CHANNEL_TIMEOUT_MS)
ENDS = "completed", "failed", "cancelled"
VAGUE = re.compile(r"(Input/output error|Cannot allocate memory|Interrupted system call|cancelled)?$")


class Side(Aerie):
    """A process with a plan, whose console is read once."""

    def __init__(self, folder, *arguments):
        self.plan = Plan(os.path.join(folder, f"plan{Aerie.number + 1}"))
        super().__init__(folder, *arguments, env=dict(os.environ, **self.plan.environment()))
        self.read = 0

    def fresh(self):
        with open(self.out, "rb") as file:
            file.seek(self.read)
            data = file.read()
        self.read += len(data)
        return data.decode(errors="replace")

    def try_ask(self, command, **arguments):
        """None: it has hung up."""
        try:
            return self.ask(command, **arguments)
        except (OSError, ValueError):
            self.socket.close()
            self.socket = None
            return None

    def wait_move(self, patience, *more):
        """Until the migration's end, or one of `more`, by its event, since each question costs calls; or it hangs up."""
        self.socket.settimeout(patience)
        try:
            while True:
                message = self.events.pop(0) if self.events else json.loads(self.file.readline())
                status = message.get("data", {}).get("status")
                if message.get("event") == "MIGRATION" and status in (None, *ENDS, *more):
                    self.socket.settimeout(TIMEOUT)
                    return status
        except (OSError, ValueError):
            self.socket.close()
            self.socket = None

    def remove(self):
        for path in self.out, self.path + ".qmp", self.plan.path:
            os.path.exists(path) and os.unlink(path)


class Count:
    """The sequence over all who had the machine."""

    def __init__(self):
        self.next, self.rest, self.log = 0, "", ""

    def take(self, side):
        """All lines that are complete; what is left of one may go on at the next side."""
        text = self.rest + side.fresh()
        self.log = (self.log + "".join(re.findall(r"aerie: [^\n]*\n", text)))[-2000:]
        text = re.sub(r"aerie: [^\n]*\n", "", text) # also in the middle of a line
        lines, self.rest = text[:text.rfind("\n") + 1], text[text.rfind("\n") + 1:]
        for line in lines.splitlines():
            check(re.fullmatch(r"[0-9a-f]{8}", line) and int(line, 16) == self.next,
                  f"the sequence breaks: {line!r} where {self.next:08x} comes next")
            self.next += 1

    def goes_on(self, side):
        end, before = time.monotonic() + TIMEOUT, self.next
        while self.next <= before + 2:
            self.take(side)
            check(time.monotonic() < end, "the guest does not count:", self.log)
            check(not side.ended(), "ended:", self.log, self.rest)


class Mover:
    def __init__(self, test, word, victim, stream=False, **parameters):
        self.test, self.word, self.victim, self.stream = test, word, victim, stream
        self.code, self.parameters = code_of(word), parameters
        image = os.path.join(test.folder, "disk.img")
        with open(image, "wb") as file:
            file.truncate(1 << 20)
        self.config = test.config(memory={"size": "8M", "shared": True}, serial=["null"],
                                  devices=[{"type": "disk", "path": image}, {"type": "rng"}])
        self.count, self.ends, self.bad, self.reasons = Count(), {}, 0, {}
        self.source = self.start(self.config)
        self.prepare(self.source)

    def start(self, *arguments):
        side = Side(self.test.folder, *arguments)
        self.test.all.append(side)
        return side

    def gone(self, side):
        side.end()
        self.test.all.remove(side)
        side.remove()

    def prepare(self, side):
        self.count.goes_on(side)
        side.run("migrate-set-parameters", **self.parameters)

    # ---- one migration ----

    def listen(self):
        dest = self.start(*([] if self.stream else [self.config]), "--incoming", self.test.uri)
        if self.stream:
            until("a listener", lambda: os.path.exists(self.test.uri[5:]) or check(not dest.ended(), dest.text()))
        else:
            dest.connect()
        return dest

    def go(self, source):
        source.wait_move(2 if self.code == errno.ENOMEM else TIMEOUT) # such an event may be lost

    def move(self, dest, at):
        """How many calls there were."""
        source = self.source
        source.ask("query-status") # has its connection
        source.events.clear()
        plan = (source if self.victim == "source" else dest).plan
        plan.begin(at, self.code)
        began = time.monotonic()
        answer = source.try_ask("migrate", uri=self.test.uri)
        if answer and "error" not in answer:
            self.go(source)
        elif answer:
            self.judge_reason(answer["error"]["desc"])
        if self.victim == "dest":
            end = time.monotonic() + 0.02 # what it does behind its last word
            while time.monotonic() < end and not dest.ended():
                time.sleep(0.002)
        count = plan.end()
        if self.victim == "dest" and not answer:
            raise Failure("the source hung up")
        check(time.monotonic() - began < SOON, "it took", time.monotonic() - began, "s")
        check(source.socket or self.code == errno.ENOMEM, "hung up")
        return answer, count, plan.struck()

    def judge_reason(self, text):
        check(not VAGUE.match(text), f"no reason: {text!r}")
        self.reasons[text] = self.reasons.get(text, 0) + 1

    def listens_on(self, dest):
        """Then it is ended here."""
        if dest.ended() or not os.path.exists(self.test.uri[5:]):
            return False
        time.sleep(0.05) # or it was about to end
        if dest.ended() or not os.path.exists(self.test.uri[5:]):
            return False
        dest.end()
        os.unlink(self.test.uri[5:])
        return True

    def judge_dest_end(self, dest):
        """It has not got the machine: it ended with a reason, or still waits for somebody."""
        if not self.listens_on(dest):
            try:
                code = dest.process.wait(TIMEOUT)
            except Exception:
                raise Failure("the destination does not end:", dest.text())
            check(code == 1 and "aerie: " in dest.text(), "the destination ended with", code, dest.text())
        text = dest.text()
        check("Sanitizer" not in text and "runtime error" not in text, text)
        check(not re.search(r"^[0-9a-f]{8}$", text, re.M), "a machine ran there:", text)

    def ended(self, refused):
        info = self.source.run("query-migrate")
        return (refused or info.get("status", "none") in (*ENDS, "none", "postcopy-paused")) and info

    def one(self, at):
        """How many calls there were."""
        dest = self.listen()
        before = self.source
        answer, count, struck = self.move(dest, at)
        refused = answer and "error" in answer
        info = until("the end of the migration", lambda: self.ended(refused))
        if not answer and info.get("status") == "completed" and self.source.status() == "running":
            refused = True # that was its own arrival
        paused = info.get("status") == "postcopy-paused"
        how = ("not begun" if refused else self.settle(dest, info) if paused else
               "in doubt" if info.get("in-doubt") else info["status"])
        self.ends[how] = self.ends.get(how, 0) + 1
        if self.code in (0, errno.EINTR):
            check(how == "completed", "it was noticed:", info)
        if how in ("completed", "recovered"):
            check(self.source.status() == "postmigrate", self.source.status())
        elif how == "in doubt":
            self.judge_reason(info["error-desc"])
            check("look whether the machine runs on the other side" in self.source.text(), "doubt, and silence")
            check(self.source.status() == "postmigrate", self.source.status())
        else:
            if "error-desc" in info:
                self.judge_reason(info["error-desc"])
            check(self.source.status() == "running", self.source.status(), info)
        if how in ("completed", "recovered") or (how == "in doubt" and self.runs_there(dest)):
            self.count.take(self.source)
            self.prepare(dest)
            check(dest.status() == "running", dest.status())
            self.source.run("quit")
            check(self.source.process.wait(TIMEOUT) == 0, "the source ended with", self.source.process.returncode)
            self.source = dest
            self.gone(before)
        else:
            self.judge_dest_end(dest)
            if how == "in doubt":
                self.source.run("migrate-resume-here")
            self.gone(dest)
            self.count.goes_on(self.source)
        check("Sanitizer" not in self.count.log and "runtime error" not in self.count.log, self.count.log)
        return count, struck

    def runs_there(self, dest):
        return until("the other side's end or run", lambda: "ended" if dest.ended() else dest.status() == "running"
                     and "runs") == "runs"

    # ---- all ----

    def run(self):
        self.one(FAR) # the first one is longer
        count, _ = self.one(FAR)
        chosen = choose(count)
        for at in in_time(chosen):
            try:
                self.one(at)
            except Failure as failure:
                where = f"call {at} of {count}, {self.victim}, {self.word}"
                struck = "; ".join(side.plan.struck() for side in self.test.all if side.plan.struck())
                raise Failure(f"{where} ({struck}): {failure}")
        print(f"{self.word} at the {self.victim}: {len(chosen)} of {count} calls failed once each: {self.ends}")
        for reason, times in sorted(self.reasons.items()):
            print(f"    {times}: {reason}")


LATE = {"postcopy-ram": True, "downtime-limit": 1, "max-bandwidth": 1 << 20}


class LateMover(Mover):
    """In post-copy: what breaks it then pauses it, and it is brought to its end."""

    def prepare(self, side):
        until("all of it", lambda: side.run("query-migrate").get("status", "completed") == "completed")
        super().prepare(side)
        side.run("migrate-set-parameters", **LATE)

    def go(self, source):
        """Switches over as soon as it copies."""
        patience = 2 if self.code == errno.ENOMEM else TIMEOUT
        if source.wait_move(patience, "active", "postcopy-paused") == "active":
            for command, arguments in ("migrate-start-postcopy", {}), ("migrate-set-parameters", {"max-bandwidth": 0}):
                if source.try_ask(command, **arguments) is None:
                    return
            source.wait_move(patience, "postcopy-paused")

    def ended(self, refused):
        info = super().ended(refused)
        if not info: # it hung up on who would have switched over
            self.source.try_ask("migrate-start-postcopy")
            self.source.run("migrate-set-parameters", **{"max-bandwidth": 0})
        return info

    def settle(self, dest, info):
        """Paused: until it has completed, or the doubt is resolved."""
        self.judge_reason(info["error-desc"])
        status = until("the other side's word", lambda: "ended" if dest.ended() else self.late_status(dest))
        if status == "ended":
            check(info.get("in-doubt"), "it ended there, and there is no doubt:", info, dest.text()[-500:])
            return "in doubt"
        if status == "postcopy-paused":
            dest.run("migrate-recover", uri=self.test.uri)
            self.source.run("migrate", uri=self.test.uri, resume=True)
            until("both completed", lambda: {self.source.run("query-migrate")["status"],
                                             dest.run("query-migrate")["status"]} == {"completed"})
        return "recovered"

    def late_status(self, dest):
        try:
            status = dest.run("query-migrate").get("status")
        except (OSError, ValueError):
            return None
        return status in ("completed", "postcopy-paused") and status


def again(test):
    """Who hears that a migration has failed may begin another."""
    side = Side(test.folder, test.config())
    test.all.append(side)
    for _ in range(100):
        side.run("migrate", uri="unix:" + os.path.join(test.folder, "nobody"))
        check(side.wait_move(TIMEOUT) == "failed", "it should have failed")


def row(word, victim, mover=Mover, **parameters):
    return lambda test: mover(test, word, victim, **parameters).run()


TESTS = {f"fault-{mode}{victim}-{word}": row(word, victim, **parameters)
         for mode, parameters in (("", {}), ("hand-over-", {"mode": "cpr-transfer"}), ("postcopy-", {"mover": LateMover}))
         for victim in ("source", "dest") for word in ("EIO", "ENOMEM", "EINTR", "short", "short-msrs")
         if mode == "" or word != "short-msrs"} # the state is the same
TESTS |= {f"fault-stream-dest-{word}": row(word, "dest", stream=True) for word in ("EIO", "ENOMEM", "EINTR", "short")}
TESTS["again"] = again
