"""What a run is judged by: the lines of the serial console, in order, and the time it takes."""
import configparser
import os
import re
import time

from images import HERE

# A broken level is a failure in every scenario that does not say otherwise by expecting the line itself.
ALWAYS_FORBIDDEN = ["Kernel panic", "BUG: ", "Oops: ", "rcu.*stall", "soft lockup"]
NOISE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|[\r\0]")


class Scenario:
    def __init__(self, name):
        self.name, self.path = name, f"{HERE}/scenarios/{name}"
        parser = configparser.ConfigParser()
        if not parser.read(f"{self.path}/scenario"):
            raise SystemExit(f"lab: no scenario {name}; there are: {' '.join(scenario_names())}")
        facts = parser["scenario"]
        self.about = facts["about"]
        self.limits = dict(item.split() for item in facts["seconds"].split(","))  # host -> hard limit
        self.modules = facts.get("modules", "").split()  # further kernel modules, at every level
        self.programs = ["probe"] + facts.get("programs", "").split()  # of guest/, at every level
        # NAME=VALUE for the scripts of every level; the lab's own environment may say otherwise.
        self.environment = dict(item.split("=", 1) for item in facts.get("environment", "").split())
        self.environment = {name: os.environ.get(name, value) for name, value in self.environment.items()}
        self.disk = facts.get("disk", "")  # "debian": L0 has it as /dev/vda; what is written there is lost at the end
        self.aerie_in_last = facts.getboolean("aerie in last level", False)
        self.kvm_in_last = facts.getboolean("kvm in last level", False)
        self.on_request = facts.get("on request", "").split()  # hosts on which it runs when it is named, and not among all
        with open(f"{self.path}/expect") as file:
            rules = [line.rstrip("\n") for line in file if line.strip() and not line.startswith("#")]
        self.expected = [rule for rule in rules if not rule.startswith("!")] + ["^LAB L0 end"]
        self.forbidden = [rule[1:] for rule in rules if rule.startswith("!")]
        self.forbidden += [rule for rule in ALWAYS_FORBIDDEN if not any(rule in text for text in self.expected)]

    def has(self, level):
        return os.path.exists(f"{self.path}/{level}.sh")


def scenario_names():
    return sorted(os.listdir(f"{HERE}/scenarios"))


class Verdict:
    """Follows the console line by line; prints what matters, remembers what is still awaited."""

    def __init__(self, scenario, start):
        self.awaited, self.forbidden, self.start = list(scenario.expected), scenario.forbidden, start
        self.broken = []

    def line(self, text):
        matched = bool(self.awaited) and re.search(self.awaited[0], text)
        bad = next((rule for rule in self.forbidden if re.search(rule, text)), None)
        if matched:
            self.awaited.pop(0)
        if bad:
            self.broken.append(text)
        if matched or bad or re.match(r"LAB |\| (?!COUNT )|aerie: ", text):  # numbers by the thousand stay in the log
            print(f"{time.monotonic() - self.start:7.1f}  {text}", flush=True)

    def problems(self, in_time):
        """What speaks against the run, nothing if it went as expected."""
        if self.broken:
            return [f"forbidden line: {text}" for text in self.broken]
        late = [] if in_time else ["stalled: not over at its time limit"]
        return late + [f"never came: {rule}" for rule in self.awaited[:1]]


def follow(process, log, verdict, deadline):
    """Feed the growing serial log to the verdict until the machine ends; False if it did not end in time."""
    rest, decided = b"", False
    with open(log, "rb") as file:
        while True:
            ended = process.poll() is not None  # before reading, so that nothing written before the end is missed
            chunk = file.read()
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                verdict.line(NOISE.sub("", line.decode(errors="replace")))
            if ended:
                return True
            if time.monotonic() > deadline:
                return False
            if verdict.broken and not decided:  # a little longer, for what else a broken level has to say
                decided, deadline = True, min(deadline, time.monotonic() + 3)
            if not chunk:
                time.sleep(0.05)
