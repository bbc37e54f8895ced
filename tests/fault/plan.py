"""What fault.c is told, and what it tells: its struct plan, and how a program is started with it."""
import errno, mmap, os, random, struct, time

SHORT_MSRS = -1
NEVER = -1
FAR = 1 << 30 # no such call: they are only counted
BUDGET = 25 # seconds
BYTES = 64 # of struct plan


def code_of(word):
    """AERIE_FAULT_ERRNO for ENOMEM, EIO, EINTR, short, short-msrs."""
    return {"short": 0, "short-msrs": SHORT_MSRS}.get(word, getattr(errno, word, None))


def choose(count):
    """Which of so many calls: AERIE_FAULTS of them (or "all"), spread evenly from one that AERIE_SEED chooses."""
    limit = os.environ.get("AERIE_FAULTS", "24")
    step = 1 if limit == "all" else max(1, count // int(limit))
    return range(1 + random.Random(int(os.environ.get("AERIE_SEED", "1"))).randrange(step), count + 1, step)


def in_time(chosen):
    """These, or of a sample as many as a busy host does in time."""
    end = time.monotonic() + BUDGET
    for at in chosen:
        if time.monotonic() > end and os.environ.get("AERIE_FAULTS") != "all":
            print(f"stopped before call {at}: {BUDGET} s have passed")
            return
        yield at


class Plan:
    def __init__(self, path):
        self.path = path
        with open(path, "w+b") as file:
            file.write(struct.pack("iii", NEVER, 0, 0).ljust(BYTES, b"\0"))
            file.flush()
            self.map = mmap.mmap(file.fileno(), BYTES)

    def environment(self):
        return {"LD_PRELOAD": os.path.join(os.environ["AERIE_BUILD"], "tests", "fault", "libfault.so"),
                "AERIE_FAULT_PLAN": self.path, "ASAN_OPTIONS": "verify_asan_link_order=0",
                "UBSAN_OPTIONS": "print_stacktrace=1"}

    def begin(self, at, code):
        self.map[4:BYTES] = struct.pack("ii", code, 0).ljust(BYTES - 4, b"\0")
        self.map[0:4] = struct.pack("i", at)

    def end(self):
        """How many calls there were."""
        self.map[0:4] = struct.pack("i", NEVER)
        return struct.unpack("i", self.map[8:12])[0]

    def struck(self):
        """The call that failed, "" for none."""
        return self.map[12:BYTES].rstrip(b"\0").decode()
