"""aerie processes with a counting payload, and what a test asks of them: for `run` and the files of its tests."""
import json, os, re, socket, subprocess, time

AERIE, BUILD = os.environ.get("AERIE_BIN"), os.environ.get("AERIE_BUILD")
TIMEOUT = 50


class Failure(Exception):
    pass


def check(condition, *what):
    if not condition:
        raise Failure(" ".join(str(w) for w in what))


def until(what, condition):
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise Failure(f"not within {TIMEOUT} s: {what}")


class Aerie:
    """One process, its console's lines and its control socket."""
    number = 0

    def __init__(self, folder, *arguments, pass_fds=(), env=None):
        Aerie.number += 1
        self.path = os.path.join(folder, f"{Aerie.number}")
        self.out = self.path + ".err"
        self.process = subprocess.Popen([AERIE, "run", *arguments, "--control", self.path + ".qmp"],
                                        stderr=open(self.out, "wb"), stdin=subprocess.DEVNULL, pass_fds=pass_fds,
                                        env=env)
        self.socket = None
        self.events = [] # that came before an answer

    def connect(self):
        def attempt():
            check(self.process.poll() is None, "aerie has ended:", self.text())
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(self.path + ".qmp")
                return True
            except OSError:
                return False
        until("control socket", attempt)
        self.socket.settimeout(TIMEOUT)
        self.file = self.socket.makefile("r") # one for writing, too, would lose what it has read ahead
        self.file.readline()
        self.run("qmp_capabilities")

    def ask(self, command, **arguments):
        if not self.socket:
            self.connect()
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            answer = json.loads(self.file.readline())
            if "event" not in answer:
                return answer
            self.events.append(answer)

    def run(self, command, **arguments):
        answer = self.ask(command, **arguments)
        check("return" in answer, command, answer)
        return answer["return"]

    def status(self):
        """None: it is about to end, or has."""
        try:
            return self.run("query-status")["status"]
        except (OSError, ValueError):
            return None

    def ended(self):
        return self.process.poll() is not None

    def text(self):
        with open(self.out, errors="replace") as file:
            return file.read()

    def numbers(self):
        check("lost" not in self.text(), "the guest has lost a page:", self.text())
        return [int(line, 16) for line in re.findall(r"^([0-9a-f]{8})$", self.text(), re.M)]

    def counts(self):
        seen = len(self.numbers())
        return until("the guest counts", lambda: len(self.numbers()) > seen + 2)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        return self.process.wait()


class Test:
    def __init__(self, folder):
        self.folder = folder
        self.all = []
        self.uri = "unix:" + os.path.join(folder, "m")

    def config(self, **more):
        config = {"name": "march", "cpus": {"count": 1}, "memory": {"size": "64M"},
                  "debug": {"exit": True, "console": "stderr"},
                  "boot": {"kernel": os.path.join(BUILD, "tests/native/march.elf")}}
        config.update(more)
        path = os.path.join(self.folder, f"config{len(os.listdir(self.folder))}.json")
        with open(path, "w") as file:
            json.dump(config, file)
        return path

    def start(self, *arguments, **options):
        aerie = Aerie(self.folder, *arguments, **options)
        self.all.append(aerie)
        return aerie

    def machine(self, **more):
        source = self.start(self.config(**more))
        source.counts()
        return source

    def listen(self, *arguments, uri=None):
        dest = self.start(*arguments, "--incoming", uri or self.uri)
        if arguments:
            dest.connect() # that socket comes after the one for the migration
        else:
            until("a listener", lambda: listens(self.uri[5:]))
        return dest

    def move(self, source, uri=None, **parameters):
        """Begins and waits for the end; what query-migrate says."""
        if parameters:
            source.run("migrate-set-parameters", **parameters)
        source.run("migrate", uri=uri or self.uri)
        return until("the end of the migration", lambda: ended(source.run("query-migrate")))

    def moved(self, source, dest, uri=None, **parameters):
        info = self.move(source, uri, **parameters)
        check(info["status"] == "completed", info)
        check(source.status() == "postmigrate", source.status())
        check(dest.status() == "running", dest.status())
        check("error" in source.ask("cont"), "the source lets itself be continued")
        dest.counts()
        return info

    def refused(self, source, why, uri=None, **parameters):
        """The source does not so much as stop."""
        info = self.move(source, uri, **parameters)
        check(info["status"] == "failed" and why in info["error-desc"], info)
        check(source.status() == "running")
        source.counts()

    def sequence(self, *machines):
        """All numbers, each once, in their order, over all machines one after the other."""
        text = re.sub(r"aerie: [^\n]*\n", "", "".join(machine.text() for machine in machines))
        check("lost" not in text, "the guest has lost a page")
        numbers = [int(line, 16) for line in re.findall(r"^(.*)\n", text, re.M)] # a line may begin on one side
        check(numbers == list(range(len(numbers))), "the sequence breaks at",
              next((i for i, n in enumerate(numbers) if i != n), None), "of", len(numbers))


def listens(path):
    """By a stranger's visit, which is let go."""
    with socket.socket(socket.AF_UNIX) as visitor:
        return visitor.connect_ex(path) == 0


def ended(info):
    return info if info.get("status") in ("completed", "failed", "cancelled") else None


def make_keys(folder, name, authority=None):
    """An authority with a certificate for each side, in a folder of their names."""
    os.mkdir(folder)
    def openssl(*arguments):
        done = subprocess.run(["openssl", *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        check(done.returncode == 0, done.stdout.decode())
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "ca-key.pem", "-out", "ca-cert.pem", "-subj", "/CN=authority", "-days", "2")
    for side in "server", "client":
        openssl("req", *key, "-keyout", f"{side}-key.pem", "-out", "request.pem", "-subj", f"/CN={name}",
                "-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1")
        openssl("x509", "-req", "-in", "request.pem", "-CA", "ca-cert.pem", "-CAkey", "ca-key.pem", "-CAcreateserial",
                "-copy_extensions", "copy", "-out", f"{side}-cert.pem", "-days", "2")


def free_port():
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::", 0))
        return probe.getsockname()[1]
